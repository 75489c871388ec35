"""Voicemill's client: send voice messages to the stages and read what became of them."""
