"""Records of jobs as typed values: they come back from their JSON as they were, whichever version wrote them."""

import json
from dataclasses import asdict

import pytest

from voicemill import Audio, Enrichment, Event, Failure, Job, Options, Transcript, UnknownJob
from voicemill.errors import ErrorCode, JobError
from voicemill.job import stored_options
from voicemill.lifecycle import STAGES
from voicemill.store.jobs import DELETED, parse

AUDIO = {
    "duration": 2.5,
    "codec": "opus",
    "container": "ogg",
    "channels": 2,
    "channel_used": 1,
    "sample_rate": 48000,
    "rms_dbfs": -20.5,
    "peak_dbfs": -1.0,
    "dc_offset": 0.01,
    "clipped": True,
    "silent": False,
    "source_bytes": 4096,
    "sha256": "ab" * 32,
    "warnings": ["the file is cut off"],
    "duplicate_of": "another",
}
TRANSCRIPT = {
    "text": "Hello.",
    "language": "en",
    "language_probability": 0.99,
    "duration": 2.5,
    "model": "tiny.en",
    "device": "cpu",
    "compute_type": "int8",
    "segments": [{"start": 1.0, "end": 1.5, "text": "Hello.", "avg_logprob": -0.1, "no_speech_prob": 0.01}],
    "no_speech": False,
}
SPENT = {
    "model": "gemini-2.5-flash-lite",
    "usage": {"input_tokens": 11, "output_tokens": 7},
    "latency": 0.5,
    "tries": 2,
    "cost_usd": None,
}
ENRICHMENT = {"title": "A greeting", "summary": "Somebody says hello.", "topics": ["hello"], **SPENT}
FAILURE = {
    "code": "undecodable",
    "message": "FFmpeg failed",
    "retryable": False,
    "remedy": "Send it in another format.",
    "stage": "decode",
    "at": 12.5,
}
OPTIONS = {
    "language": "ko",
    "task": "translate",
    "prompt": "Voicemill",
    "hotwords": "Redis",
    "word_timestamps": True,
    "enrich": False,
    "metadata": {"chat": 7},
    "callback_url": "https://user:word@example.com/hook?token=hunter2",
    "dedupe": True,
    "stream": 1,
}
FIELDS = {
    "status": "done",
    "created_at": 10.5,
    "finished_at": 20.5,
    "source": "https://user:word@example.com/voice.ogg?token=hunter2",
    "options": OPTIONS,
    "owner": "acme",
    "lane": "batch",
    "rerun_of": "earlier",
    "edited_at": 30.5,
    "redecodes": 1,
    "audio": AUDIO,
    "transcript": TRANSCRIPT,
    "enrichment": ENRICHMENT,
    "enrichment_skipped": "no key",
    "enrichment_error": {**FAILURE, "code": "enrich_gave_up", **SPENT},
    "error": FAILURE,
    "webhook.receiver": "https://example.com:443",
    "webhook.pending": "1:transcribed:11.5 2:done:12.5",
    "webhook.attempts": 3,
    "webhook.delivered": "transcribed",
    "webhook.last_at": 11.5,
    "webhook.next_at": 13.5,
    "webhook.delivered_at": 12.5,
    "webhook.last_status": 500,
    "webhook.last_error": {**FAILURE, "code": "webhook_refused"},
    "webhook.stopped": {**FAILURE, "code": "webhook_gone"},
    **{f"{stage}.{name}": 5.5 for stage in STAGES for name in ("queued_at", "started_at", "finished_at")},
    **{f"{stage}.attempts": 2 for stage in STAGES},
    **{f"{stage}.worker": "host:1" for stage in STAGES},
}


def read(fields):
    """Return the job whose record in Redis has these fields."""

    def stored(value):
        return (value if isinstance(value, str) else json.dumps(value)).encode()

    plain = {name.encode(): stored(value) for name, value in fields.items() if name != "enrichment_skipped"}
    if "enrichment_skipped" in fields:
        plain[b"enrichment_skipped"] = json.dumps(fields["enrichment_skipped"]).encode()
    return parse("j", plain)


def test_a_record_becomes_json_that_has_every_field():
    record = read(FIELDS).as_dict()

    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert not [name for name, value in record.items() if value is None]
    assert set(record) == set(Job.__dataclass_fields__)
    for name in ("audio", "transcript", "enrichment", "enrichment_error", "error"):
        assert record[name] == FIELDS[name], name
    assert record["webhook"]["last_error"] == FIELDS["webhook.last_error"]
    assert record["webhook"]["pending"] == ["transcribed", "done"]
    assert record["stages"]["decode"]["worker"] == "host:1"
    assert record["metadata"] == {"chat": 7}


def test_a_record_shows_no_secret_of_its_addresses():
    shown = json.dumps(read(FIELDS).as_dict())

    assert "hunter2" not in shown
    assert "word@" not in shown


@pytest.mark.parametrize(
    ("kind", "record"),
    [(Audio, AUDIO), (Transcript, TRANSCRIPT), (Enrichment, ENRICHMENT), (Failure, FAILURE | SPENT)],
)
def test_each_result_comes_back_from_its_json_as_it_was(kind, record):
    value = kind.from_dict(record)

    assert value.as_dict() == record
    assert kind.from_dict(json.loads(json.dumps(value.as_dict()))) == value


def test_what_has_no_value_is_read_back_as_that():
    for value in (Audio(), Enrichment({}, ""), Failure.of(JobError(ErrorCode.LOST, "gone")), Transcript.from_dict({})):
        assert type(value).from_dict(json.loads(json.dumps(value.as_dict()))) == value


def test_a_record_of_the_version_before_has_neutral_values_for_what_it_lacks():
    job = read(
        {
            "status": "done",
            "created_at": 10.5,
            "source": "voice.ogg",
            "options": {"language": "ko"},
            "decode.queued_at": 10.5,
            "audio": {"duration": 2.5},
            "transcript": {"text": "Hello."},
            "enrichment": {"title": "A greeting"},
            "enrichment_error": {"code": "enrich_gave_up", "message": "no"},
            "error": {"code": "lost"},
            "webhook.receiver": "https://example.com:443",
        }
    )

    assert (job.owner, job.lane, job.rerun_of, job.edited_at, job.finished_at) == (
        None,
        "interactive",
        None,
        None,
        None,
    )
    assert job.options == Options(language="ko")
    assert (job.audio.duration, job.audio.codec, job.audio.warnings) == (2.5, None, ())
    assert (job.transcript.text, job.transcript.segments, job.transcript.degraded) == ("Hello.", (), None)
    assert (job.enrichment.title, job.enrichment.summary, job.enrichment.usage.input_tokens) == ("A greeting", None, 0)
    assert (job.enrichment_error.message, job.enrichment_error.spent) == ("no", {})
    assert (job.error.code, job.error.message, job.error.retryable) == ("lost", "", False)
    assert (job.webhook.pending, job.webhook.last_status, job.webhook.stopped) == ((), None, None)
    assert job.stages["transcribe"].attempts == 0
    assert json.dumps(job.as_dict())


@pytest.mark.parametrize("name", ["options", "audio", "transcript", "enrichment_error", "error", "webhook.stopped"])
def test_what_a_later_version_adds_to_a_part_of_a_record_is_ignored(name):
    more = FIELDS | {name: FIELDS[name] | {"mood": "good"}}

    assert read(more) == read(FIELDS)


def test_what_a_later_version_adds_to_a_record_is_ignored():
    assert read(FIELDS | {"mood": "good", "diarize.queued_at": 5.5}) == read(FIELDS)


def test_the_fields_of_a_summary_are_those_of_its_schema_whatever_they_are():
    assert read(FIELDS | {"enrichment": ENRICHMENT | {"mood": "good"}}).enrichment.fields["mood"] == "good"


def test_an_error_code_of_a_later_version_is_kept_as_text():
    job = read(FIELDS | {"error": FAILURE | {"code": "teleported"}})

    assert (job.error.code, job.as_dict()["error"]["code"]) == ("teleported", "teleported")


def test_an_event_may_have_fewer_or_more_fields():
    event = Event.from_json(b'{"at": 1.5, "status": "decoding", "mood": "good"}')

    assert (event.at, event.status, event.detail) == (1.5, "decoding", {})
    assert Event.from_json(json.dumps(asdict(event))) == event


def test_options_come_back_from_the_record_as_they_were():
    assert stored_options(OPTIONS) == Options(**OPTIONS)
    assert stored_options({}) == Options()


@pytest.mark.parametrize("fields", [{}, {"status": DELETED}, {"source": "voice.ogg"}])
def test_what_is_no_record_is_an_unknown_job(fields):
    with pytest.raises(UnknownJob):
        read(fields)
