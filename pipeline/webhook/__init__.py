"""The room of the webhooks: what became of a job is POSTed to the server that its sender named, signed and in order."""
