"""The line in which a worker says why it ends before it has begun."""

import multiprocessing
import sys
from contextlib import closing

import pytest
from dramatiq.compat import StreamablePipe

from actors import process


def test_it_does_not_depend_on_dramatiqs_master_which_reads_no_more_after_the_end(monkeypatch, capfd):
    hears, tells = multiprocessing.Pipe(duplex=False)
    with closing(hears), closing(tells):
        monkeypatch.setattr(sys, "stderr", StreamablePipe(tells))
        with pytest.raises(SystemExit) as caught:
            process.give_up("enrich", "no such file", process.USAGE)

        assert caught.value.code == 2
        assert capfd.readouterr().err == "enrich: no such file\n"
        assert not hears.poll()
