"""`status` on a terminal: nothing is cut off where there are 80 columns, and no room is wasted where there are 120."""

import io
import json
from argparse import Namespace

import pytest
import redis
from rich.console import Console

from cli.status import run, shown
from voicemill import status
from voicemill.status import Percentiles, StageStatus, Status, Webhooks
from voicemill.store.jobs import TIMINGS
from voicemill.store.queue import Depth
from voicemill.store.workers import Worker

HOST = "ip-10-0-12-34.eu-central-1.compute.internal"
GIB = 2**30
GPU = {
    "name": "NVIDIA A10",
    "memory_used": 18.2 * GIB,
    "memory_total": 22.5 * GIB,
    "utilisation": 97,
    "temperature": 71,
}
NONE = Percentiles(None, None)
SPENT = {"summaries": 0, "requests": 0, "failures": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}


def busy(**enrichment):
    """A system with much to do, GPUs and nobody who enriches or delivers."""
    transcriber = Worker(HOST, 2, ["transcribe"], 0.0, "NVIDIA A10", [GPU, GPU])
    decoder = Worker(HOST, 1, ["decode"], 0.0)
    long = Percentiles(1800.4, 86399.6)
    return Status(
        stages={
            "decode": StageStatus([decoder], Depth(99_821, 4, 12, 3), 86399.6, 812, long, long),
            "transcribe": StageStatus([transcriber], Depth(9, 16, 0, 0), 1.5, 80, Percentiles(0.62, 1.79), NONE),
            "enrich": StageStatus([], Depth(0, 0, 0, 0), None, 0, NONE, NONE),
        },
        unfinished=99_850,
        handoff_bytes=10**8,
        webhooks=Webhooks([], Depth(1, 0, 3, 4)),
        enrichment=SPENT | {"unpriced_requests": 0} | enrichment,
    )


def printed(now, width):
    console = Console(width=width, file=io.StringIO())
    console.print(shown(now))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_status_says_everything_in_80_columns_and_in_more(width):
    text = printed(busy(), width)

    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for figure in ("99821", "86400", "1800 / 86400", "0.62 / 1.79", "812", "none"):
        assert figure in text, figure
    assert text.count("18.2 of 22.5 GiB, 97 %, 71 °C") == 2
    assert f"{HOST}:2" in text
    assert "No live worker consumes the enrich stage" in text
    assert "No live worker consumes the webhook queue" in text


def test_the_tables_stand_beside_each_other_where_120_columns_have_room_for_both():
    narrow, wide = (printed(busy(), width).splitlines() for width in (80, 120))

    assert [line.split().count("decode") for line in narrow if line.startswith("decode")] == [1, 1]
    assert [line.split().count("decode") for line in wide if line.startswith("decode")] == [2]


def test_what_gemini_was_asked_for_is_told_where_it_was_asked():
    asked = {"summaries": 12, "requests": 15, "failures": 2, "input_tokens": 123_456, "output_tokens": 9876}

    text = printed(busy(**asked, cost_usd=0.01234, unpriced_requests=1), 120)

    assert "12 summaries of 15 requests, 2 of them failed; 123,456 tokens in, 9,876 out" in text
    assert "0.0123 USD; requests without a price: 1" in text
    assert "Gemini" not in printed(busy(), 120)


def test_more_jobs_a_minute_than_are_kept_are_told_by_their_pace():
    assert status._done_last_minute([940.0] * 5 + [941.0, 999.0], now=1000.0) == 2
    assert status._done_last_minute([970.0 + n / 100 for n in range(TIMINGS)], now=1000.0) == 2000


@pytest.mark.parametrize("as_json", [True, False])
def test_watching_goes_on_when_redis_is_away_for_a_while(as_json, monkeypatch, capsys):
    answers = [busy(), redis.ConnectionError("refused"), busy(), KeyboardInterrupt()]

    def read():
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(status, "read", read)
    monkeypatch.setattr("cli.status.EVERY", 0)
    with pytest.raises(KeyboardInterrupt):
        run(Namespace(json=as_json, watch=True))

    printed = capsys.readouterr()
    assert answers == []
    if as_json:
        assert [json.loads(line)["unfinished"] for line in printed.out.splitlines()] == [99_850] * 2
        assert printed.err.count("Redis cannot be used, waiting: refused") == 1
