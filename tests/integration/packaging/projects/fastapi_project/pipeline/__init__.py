"""This project's own data pipeline."""

STEPS = ("load", "store")
