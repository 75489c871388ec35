"""Being told to stop, by whatever many signals."""

import subprocess
import sys

from config.environment import ROOT

# At each line of Python of which the handling of a signal consists, another signal comes.
WAITING = """
import signal, sys
from cli.signals import stops

def interrupt(*_):
    signal.raise_signal(signal.SIGTERM)
    return interrupt

told = stops()
sys.settrace(interrupt)
signal.raise_signal(signal.SIGINT)
len("the handler runs here at the latest")
sys.settrace(None)
assert {told.get() for _ in range(told.qsize())} == {signal.SIGINT, signal.SIGTERM}
print("woke")
"""


def test_a_signal_amid_the_handling_of_another_does_not_hold_up_the_stop():
    ran = subprocess.run([sys.executable, "-c", WAITING], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert ran.stdout == "woke\n", ran.stderr
