"""What Dramatiq runs."""
