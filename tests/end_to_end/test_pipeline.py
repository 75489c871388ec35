"""From `decode.send()` to the result, through the real worker groups of the Procfile."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid

import pytest
from conftest import CLONE, ffmpeg
from dramatiq import Message
from hearing import GERMAN, SENTENCE, word_error_rate
from live import audio, current, jobs, store
from processes import models

from actors.broker import Broker
from voicemill import decode
from voicemill.errors import Refused
from voicemill.lifecycle import PROGRESS
from voicemill.options import Options
from voicemill.store import keys

pytestmark = pytest.mark.usefixtures("backend")


def test_a_voice_message_becomes_text_and_says_why_it_has_no_summary(media):
    message = decode.send("en.ogg", language="en", metadata={"chat": 7})
    assert jobs.get(message.message_id).status in PROGRESS

    job = jobs.wait(message.message_id, timeout=60)

    assert job.status == "done", job.error
    assert word_error_rate(job.transcript.text, SENTENCE) < 0.4
    assert job.transcript.device == "cpu"
    assert job.metadata == {"chat": 7}
    assert job.audio.codec == "opus"
    assert 3 < job.transcript.duration < 8
    assert "GEMINI_API_KEY" in job.enrichment_skipped
    for stage in job.stages.values():
        assert stage.queued_at <= stage.started_at <= stage.finished_at
        assert stage.attempts == 1
    assert not audio.exists(job.id)


def test_two_messages_in_different_languages_at_once_are_both_detected_and_transcribed():
    sent = {language: decode.send(f"{language}.ogg").message_id for language in ("en", "de")}

    found = {language: jobs.wait(job_id, timeout=60).transcript for language, job_id in sent.items()}

    assert {language: transcript.language for language, transcript in found.items()} == {"en": "en", "de": "de"}
    assert word_error_rate(found["en"].text, SENTENCE) < 0.4
    assert word_error_rate(found["de"].text, GERMAN) < 0.5


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("letter.ogg", "undecodable"),
        ("empty.ogg", "empty_source"),
        ("missing.ogg", "source_not_found"),
        ("folder.ogg", "source_not_found"),
        ("mute.mp4", "no_audio_stream"),
        ("/etc/passwd", "source_forbidden"),
        ("../../../etc/passwd", "source_forbidden"),
        ("file:///etc/passwd", "source_forbidden"),
        ("upload:nothing", "source_not_found"),
    ],
)
def test_what_cannot_be_decoded_fails_with_its_code_and_the_workers_continue(backend, source, code):
    before = backend.supervisor.pids()

    job = jobs.wait(decode.send(source).message_id, timeout=30)

    assert (job.status, job.error.code, job.error.stage) == ("failed", code, "decode")
    assert job.error.message
    assert backend.supervisor.pids() == before
    assert jobs.wait(decode.send("en.ogg", language="en").message_id, timeout=30).status == "done"


def test_every_log_line_of_a_job_names_job_stage_and_worker_dramatiq_s_lines_too(backend):
    job = jobs.wait(decode.send("letter.ogg").message_id, timeout=30)

    lines = [json.loads(line.partition(" | ")[2]) for line in backend.await_line(job.id, count=2)]

    assert {"Job failed"} < {line["event"] for line in lines}
    assert any(line["event"].startswith("Failed to process message") for line in lines)
    for line in lines:
        assert (line["job"], line["stage"], line["worker"]) == (job.id, "decode", job.stages["decode"].worker)
    assert not backend.matching("Traceback")


def test_a_message_that_ends_in_the_middle_gives_its_audible_part_with_a_warning():
    job = jobs.wait(decode.send("cut.ogg", language="en").message_id, timeout=30)

    assert job.status == "done"
    assert word_error_rate(job.transcript.text, "Please move our meeting with the") < 0.6
    assert job.audio.warnings


def test_bytes_that_only_the_backend_has_are_uploaded(media):
    source = audio.upload((media / "en.ogg").read_bytes())

    job = jobs.wait(decode.send(source, language="en", enrich=False).message_id, timeout=30)

    assert word_error_rate(job.transcript.text, SENTENCE) < 0.4
    assert job.enrichment_skipped is None


def test_the_same_bytes_again_get_the_earlier_transcript_without_the_model(media):
    data = (media / "en.ogg").read_bytes()
    first = jobs.wait(decode.send(audio.upload(data), language="en", prompt="dedupe").message_id, timeout=30)

    again = jobs.wait(
        decode.send(audio.upload(data), language="en", prompt="dedupe", dedupe=True).message_id, timeout=30
    )
    other = jobs.wait(
        decode.send(audio.upload(data), language="en", prompt="otherwise", dedupe=True).message_id, timeout=30
    )

    assert (again.status, again.transcript) == ("done", first.transcript)
    assert again.audio.duplicate_of == first.id
    assert again.stages["transcribe"].attempts == 0
    assert other.stages["transcribe"].attempts == 1


def test_a_wrong_option_is_refused_at_once():
    with pytest.raises(Refused, match="langauge") as raised:
        decode.send("en.ogg", langauge="en")

    assert raised.value.code == "invalid_options"


def test_a_producer_that_checks_nothing_gets_a_failed_job():
    job = wait_for_record(put("decode", ("en.ogg",), {"language": "klingon"}))

    assert (job.status, job.error.code) == ("failed", "invalid_options")


def test_a_program_with_nothing_but_dramatiq_sends_as_the_documentation_says(media, stages_redis, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (CLONE / "docs" / "backend.md").read_text(), re.DOTALL)
    (program,) = (block for block in blocks if "RedisBroker" in block)
    (tmp_path / "sender.py").write_text(program.replace("https://example.com/voice.ogg", "en.ogg"))
    command = [sys.executable, "-I", "sender.py"]  # -I: nothing of this repository is on its path

    ran = subprocess.run(
        command, cwd=tmp_path, env={"REDIS_URL": stages_redis}, capture_output=True, text=True, timeout=30
    )

    assert ran.returncode == 0, ran.stderr
    job = wait_for_record(ran.stdout.strip())
    assert (job.status, job.options.language) == ("done", "en"), job.error
    assert word_error_rate(job.transcript.text, SENTENCE) < 0.4


@pytest.mark.parametrize("version", [{}, {"schema": 0}], ids=["no schema", "an older schema"])
def test_messages_of_an_earlier_version_that_are_still_queued_are_processed(media, tmp_path, version):
    to_decode, decoded = put("decode", ("letter.ogg",), version), str(uuid.uuid4())
    ffmpeg("-i", media / "en.ogg", "-ar", "16000", "-ac", "1", tmp_path / "audio.flac")
    jobs.create(decoded, "en.ogg", Options(language="en", enrich=False))
    audio.put(decoded, tmp_path / "audio.flac")
    store.redis.hset(keys.record(decoded), mapping={"status": "decoded", "audio": json.dumps({"sha256": "0"})})

    put("transcribe", (decoded,), version, message_id=decoded)

    assert wait_for_record(to_decode).error.code == "undecodable"  # and not for its schema
    assert jobs.wait(decoded, timeout=30).status == "done"


def put(stage, args, keywords, **identity):
    """Put a message into a queue as it is, without the checks that `send` makes; return its id."""
    message = Message(stage, stage, args, keywords, {}, **identity)
    bare = message.copy(options={"redis_message_id": message.message_id})
    Broker(current()).do_enqueue(stage, message.message_id, bare.encode())
    return message.message_id


def wait_for_record(job_id):
    """Wait for a job whose record only the workers write."""
    store.redis.xread({keys.events(job_id): "0-0"}, block=4000)
    return jobs.wait(job_id, timeout=30)


def test_a_job_whose_model_process_is_aborted_still_ends_as_done(backend):
    pid = backend.supervisor.pids()["transcribe"]
    job_id = decode.send("long.ogg", language="en").message_id
    for event in jobs.events(job_id):
        if event.status == "transcribing":
            break
    assert models(pid)
    for model in models(pid):
        os.kill(model, signal.SIGABRT)

    job = jobs.wait(job_id, timeout=90)

    assert job.status == "done", job.error
    # Whisper may leave out one or two of six repetitions; half of the message would be a rate of 0.5.
    assert word_error_rate(job.transcript.text, " ".join([SENTENCE] * 6)) < 0.4
    assert backend.supervisor.pids()["transcribe"] == pid
