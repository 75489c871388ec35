"""The door for those who have no Python: HTTP over the queue. It only enqueues and reads, and stands above the rest."""
