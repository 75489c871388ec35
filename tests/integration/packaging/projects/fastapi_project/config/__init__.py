"""This project's own settings, in a package with the name of one of Voicemill's."""

LANGUAGE = "ko"
