"""`status` on a terminal: nothing is cut off at 80 columns, and 120 columns are used."""

import json
from argparse import Namespace

import pytest
import redis

from voicemill import status as reading
from voicemill._cli.status import run, shown
from voicemill.status import Percentiles, StageStatus, SystemStatus, WebhookStatus
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
    """A system with a backlog and GPUs, and without workers for enrich and webhooks."""
    transcriber = Worker(HOST, 2, ["transcribe"], 0.0, "NVIDIA A10", [GPU, GPU], paused="the disk is\x1b[31m full")
    decoder = Worker(HOST, 1, ["decode"], 0.0)
    long = Percentiles(1800.4, 86399.6)
    return SystemStatus(
        stages={
            "decode": StageStatus([decoder], Depth(99_821, 4, 12, 3), 86399.6, 812, long, long),
            "transcribe": StageStatus([transcriber], Depth(9, 16, 0, 0), 1.5, 80, Percentiles(0.62, 1.79), NONE),
            "enrich": StageStatus([], Depth(0, 0, 0, 0), None, 0, NONE, NONE),
        },
        unfinished=99_850,
        handoff_bytes=10**8,
        webhooks=WebhookStatus([], Depth(1, 0, 3, 4)),
        enrichment=SPENT | {"unpriced_requests": 0} | enrichment,
    )


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_status_shows_everything_in_80_columns_and_in_more(columns):
    lines = shown(busy(), columns)
    text = "\n".join(lines)

    assert "…" not in text
    assert max(map(len, lines)) <= columns
    for figure in ("99821", "86400", "1800 / 86400", "0.62 / 1.79", "812", "none"):
        assert figure in text, figure
    assert text.count("18.2 of 22.5 GiB, 97 %, 71 °C") == 2
    assert f"{HOST}:2" in text
    assert "No live worker consumes the enrich stage" in text
    assert "No live worker consumes the webhook queue" in text
    assert "\x1b" not in text


def test_the_tables_are_beside_each_other_where_both_fit():
    narrow, wide = (shown(busy(), columns) for columns in (80, 120))

    assert [line.split().count("decode") for line in narrow if line.startswith("decode")] == [1, 1]
    assert [line.split().count("decode") for line in wide if line.startswith("decode")] == [2]


def test_a_terminal_with_colours_shows_missing_workers_and_pauses_in_red():
    red = [line for line in shown(busy(), 80, coloured=True) if "\x1b[31m" in line]

    assert [line.split()[0] for line in red] == ["enrich", "webhook", "\x1b[31m"]


def test_requests_to_the_provider_are_shown_once_there_are_any():
    asked = {"summaries": 12, "requests": 15, "failures": 2, "input_tokens": 123_456, "output_tokens": 9876}

    text = "\n".join(shown(busy(**asked, cost_usd=0.01234, unpriced_requests=1), 120))

    assert "12 summaries of 15 requests, 2 of them failed; 123,456 tokens in, 9,876 out" in text
    assert "0.0123 USD; requests without a price: 1" in text
    assert "Gemini" not in "\n".join(shown(busy(), 120))


def test_a_rate_above_what_is_kept_is_extrapolated():
    assert reading._done_last_minute([940.0] * 5 + [941.0, 999.0], now=1000.0) == 2
    assert reading._done_last_minute([970.0 + n / 100 for n in range(TIMINGS)], now=1000.0) == 2000


class Answers:
    """A client whose status is each of these in turn, or raises it."""

    def __init__(self, *answers):
        self.left = list(answers)

    def status(self):
        answer = self.left.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.mark.parametrize("as_json", [True, False])
def test_watching_goes_on_while_redis_is_away(as_json, capsys):
    client = Answers(busy(), redis.ConnectionError("refused"), busy(), KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        run(Namespace(json=as_json, watch=True), client, every=0)

    printed = capsys.readouterr()
    assert client.left == []
    assert printed.err.count("Redis cannot be used, waiting: refused") == 1
    if as_json:
        assert [json.loads(line)["unfinished"] for line in printed.out.splitlines()] == [99_850] * 2
    else:
        assert printed.out.count("99850 jobs not finished") == 2
