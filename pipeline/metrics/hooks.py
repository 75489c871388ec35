"""Hooks for metrics: code reports an observation where it is made, and listeners count it.

So the stages do not depend on Prometheus, and an observation costs nothing while nobody listens. The names are those of
pipeline/metrics/catalogue.py; a test compares them. Standard library alone.
"""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[str, float, dict[str, str]], None]

listeners: list[Listener] = []  # each must be fast, thread-safe, and never raise


def note(name: str, value: float = 1, **labels: str) -> None:
    """Report an observation to the listeners.

    Args:
        name: of the metric, without its prefix.
        value: to add to a counter, or to observe in a histogram.
        labels: of the metric, all of them.
    """
    for listener in listeners:
        listener(name, value, labels)
