"""What is worth counting is noted where it happens; whoever counts listens, and nobody does unless asked to.

So the rooms need not know of Prometheus, and a note costs nothing while there is no listener. Part of the backend's
path: the standard library alone. The names are those of pipeline/metrics/catalogue.py, and a test holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[str, float, dict[str, str]], None]

listeners: list[Listener] = []  # each must be quick, raise nothing, and bear calls from any thread


def note(name: str, value: float = 1, **labels: str) -> None:
    """Tell the listeners that something happened.

    Args:
        name: of the metric, without its prefix.
        value: to add to a counter, or to file in a histogram.
        labels: of the metric, all of them.
    """
    for listener in listeners:
        listener(name, value, labels)
