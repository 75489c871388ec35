"""Webhooks: POST a job's events to the server that its sender named, signed and in order."""
