"""What pages show of records and timings."""

import pytest

from voicemill.lifecycle import STAGES
from voicemill.store.jobs import parse
from web.dashboard import audio, rates, respond, views

NOW = 1_000_000.0


def record(**fields):
    return parse("j1", {name.encode(): str(value).encode() for name, value in fields.items()})


def finished(**more):
    fields = {
        "status": "done",
        "created_at": 100,
        "finished_at": 110,
        "decode.queued_at": 100,
        "decode.started_at": 101,
        "decode.finished_at": 103,
        "transcribe.queued_at": 103,
        "transcribe.started_at": 103.5,
        "transcribe.finished_at": 108,
        "transcribe.attempts": 1,
        "enrich.queued_at": 108,
        "enrich.started_at": 108,
        "enrich.finished_at": 110,
        "audio": '{"duration": 45}',
    }
    return record(**fields | {name.replace("__", "."): value for name, value in more.items()})


def test_the_bar_shows_every_wait_and_work_in_order_without_a_gap():
    timeline = views.timeline(finished())

    assert [(span.stage, span.kind, span.start, span.seconds) for span in timeline.spans] == [
        ("decode", "wait", 0, 1),
        ("decode", "work", 1, 2),
        ("transcribe", "wait", 3, 0.5),
        ("transcribe", "work", 3.5, 4.5),
        ("enrich", "wait", 8, 0),
        ("enrich", "work", 8, 2),
    ]
    assert timeline.total == 10
    assert sum(timeline.share(span.seconds) for span in timeline.spans) == pytest.approx(100)


def test_the_bar_of_an_unfinished_job_grows_until_now():
    job = record(**{"status": "decoding", "created_at": 100, "decode.queued_at": 100, "decode.started_at": 101})

    timeline = views.timeline(job, now=107)

    assert [(span.kind, span.seconds) for span in timeline.spans] == [("wait", 1), ("work", 6)]


def test_the_bar_of_a_job_that_has_just_arrived_does_not_divide_by_zero():
    timeline = views.timeline(record(status="queued", created_at=100, **{"decode.queued_at": 100}), now=100)

    assert [timeline.share(span.seconds) for span in timeline.spans] == [0]


def test_steps_show_what_was_done_failed_and_skipped():
    def steps(job):
        return [views.step(job, stage) for stage in STAGES]

    assert steps(finished()) == ["done", "done", "done"]
    assert steps(finished(enrichment_skipped='"no key"')) == ["done", "done", "skipped"]
    failed = {"status": "failed", "error": '{"stage": "decode", "code": "undecodable"}', "decode.queued_at": 100}
    assert steps(record(**failed)) == ["failed", "skipped", "skipped"]
    waiting = {"status": "queued", "decode.queued_at": 100, "options": '{"enrich": false}'}
    assert steps(record(**waiting)) == ["waiting", "ahead", "skipped"]


def test_speed_is_seconds_of_audio_per_second_of_work():
    assert views.speed(finished()) == 10
    assert views.speed(record(status="queued")) is None


@pytest.mark.parametrize(
    ("source", "metadata", "name"),
    [
        ("upload:abc", {"filename": "주말 회의.ogg"}, "주말 회의.ogg"),
        ("upload:abc", {"filename": " "}, "0123abcd"),
        ("upload:abc", {"filename": 7}, "0123abcd"),
        ("upload:abc", ["filename"], "0123abcd"),
        ("https://user:secret@x.example/a/voice%20note.ogg?token=t", None, "voice note.ogg"),
        ("inbox/voice.ogg", None, "voice.ogg"),
        ("data:audio/ogg;base64,AAAA", None, "0123abcd"),
        ("https://x.example/", None, "0123abcd"),
        ("", None, "0123abcd"),
    ],
)
def test_a_message_is_named_after_its_file_if_that_is_known(source, metadata, name):
    assert views.name_of("0123abcd-ef", source, metadata) == name


@pytest.mark.parametrize(
    ("name", "stem"),
    [("voice.ogg", "voice"), ("../../etc/passwd", "passwd"), ("주말 회의.ogg", "주말-회의"), ("<>", "transcript")],
)
def test_a_download_has_a_harmless_name(name, stem):
    assert views.stem(name) == stem


def test_a_summary_with_an_operators_own_schema_is_shown_completely():
    fields = {
        "title": "Known",
        "topics": "not a list",
        "language": "en",
        "order": {"number": 7},
        "empty": [],
        "custom": [{"name": "Colour", "value": "red"}, "odd"],
    }

    assert list(views.extras(fields)) == [
        ("topics", "not a list"),
        ("order", {"number": 7}),
        ("Colour", "red"),
    ]
    assert views.named({"summary": ["not", "text"]}, "summary", str) is None


def test_the_rate_counts_the_last_hour_minute_by_minute():
    rate = rates.of([NOW, NOW - 30, NOW - 61, NOW - 3599, NOW - 3601, NOW - 9000], NOW)

    assert (rate.jobs, rate.since, rate.an_hour) == (4, 3600, 4)
    assert (rate.bins[-1], rate.bins[-2], rate.bins[0], sum(rate.bins)) == (2, 1, 1, 4)


def test_timings_that_reach_back_ten_minutes_are_extrapolated_to_an_hour():
    rate = rates.of([NOW - 600 * number / 999 for number in range(1000)], NOW)

    assert (rate.jobs, rate.since, rate.an_hour) == (1000, 600, 6000)


def test_the_rate_of_a_stage_that_never_worked_is_zero():
    assert rates.of([], NOW) == rates.Rate(0, 3600, 0, (0,) * 60)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-", (0, 99)),
        ("bytes=10-19", (10, 19)),
        ("bytes=10-1000", (10, 99)),
        ("bytes=20-10", None),
        ("bytes=-5", None),
        ("bytes=0-1,5-6", None),
        ("lines=1-2", None),
        (None, None),
    ],
)
def test_a_player_gets_a_range_if_it_requests_a_single_one(header, part):
    assert audio.part(header, 100) == part


def test_a_range_behind_the_end_is_rejected():
    with pytest.raises(ValueError, match="100 bytes"):
        audio.part("bytes=100-", 100)


def test_a_range_may_span_any_chunks():
    chunks = [b"abc", b"defg", b"hi"]
    for first in range(9):
        for last in range(first, 9):
            assert b"".join(audio.cut(iter(chunks), first, last)) == b"abcdefghi"[first : last + 1]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/page/jobs/7", "/page/jobs/7"),
        ("/page?x=1", "/page?x=1"),
        ("https://evil.example/page", "/page"),
        ("//evil.example/page", "/page"),
        ("/\\evil.example", "/page"),
        ("/page/\\evil.example", "/page"),
        ("/pages", "/page"),
        ("javascript:alert(1)", "/page"),
        (None, "/page"),
    ],
)
def test_forms_lead_only_to_the_dashboards_pages(path, answer):
    assert respond.local(path) == answer


def test_lengths_and_sizes_have_the_digits_that_matter():
    assert [views.length(value) for value in (None, 0.044, 3.21, 65, 7500)] == [
        "–",
        "44 ms",
        "3.2 s",
        "1 min 5 s",
        "2 h 5 min",
    ]
    assert [views.size(value) for value in (None, 999, 1500, 2e6, 3e9)] == ["–", "999 B", "1.5 kB", "2.0 MB", "3.0 GB"]
    assert [views.clock(value) for value in (0, 65, 3665)] == ["0:00", "1:05", "1:01:05"]
