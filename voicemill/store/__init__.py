"""What Voicemill keeps in Redis: jobs, audio between stages, queues, workers and undelivered webhooks."""
