"""Tables that tests fill and the run prints at its end, also where the tests ran in processes of their own."""

import pytest

LINES = pytest.StashKey[dict[str, list[str]]]()  # in the configuration: a table's title -> its lines
