"""Mistakes that the type checker has to find."""

from voicemill import Client, ErrorCode

job = Client().get("1")
job.transcript.segments  # it may be None
job.options.langauge  # a typo
ErrorCode.UNDECODEABLE  # a typo
Client().wait("1", timeout="60")
