"""The drill in which everything dies: see `python -m tests.chaos --help`."""
