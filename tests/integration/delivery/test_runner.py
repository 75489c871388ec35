"""The runner of a stage: it begins an attempt, does the work and finishes in one step, whatever comes twice or late."""

import json
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from live import audio, current, jobs, queues, store
from running import RESULTS, Process

from actors.attempt import Attempt
from actors.runner import Runner
from config import settings
from pipeline.transcribe.stage import Transcribing
from voicemill.errors import ErrorCode, JobError
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import SCHEMA, letter

pytestmark = pytest.mark.usefixtures("redis_url")

SAMPLE = Path(__file__).parents[3] / "samples" / "voice-message.ogg"


def decoded(job_id="j", **options):
    """Write a job that was decoded, with its audio and its message for transcribe."""
    jobs.create(job_id, "voice.ogg", Options(**options))
    audio.put(job_id, SAMPLE)
    jobs.finish(job_id, "decode", {"audio": {}})


def never(_job, _context):
    pytest.fail("there is no work to do")


@pytest.mark.parametrize("stage", ["decode", "transcribe", "enrich"])
def test_a_message_of_a_later_version_is_refused_as_such(stage):
    jobs.create("j", "voice.ogg", Options())
    runner = Runner(stage, never, current(), settings.get(), Attempt())

    with pytest.raises(JobError) as raised:
        runner.run("j", ("j",), {"schema": SCHEMA + 1})

    assert raised.value.code == "unsupported_schema"


def test_result_event_and_next_message_are_stored_in_one_step():
    decoded()

    Process("transcribe").process()

    assert jobs.get("j").status == "transcribed"
    (*_, (_, last)) = store.redis.xrange(keys.events("j"))
    assert json.loads(last[b"event"])["status"] == "transcribed"
    assert queues.depths()["enrich"].waiting == 1
    assert not audio.exists("j")


def test_the_result_of_a_stale_attempt_is_discarded():
    decoded()

    def overtaken(job, _context):
        jobs.begin(job.id, "transcribe", "host:2")
        return RESULTS["transcribe"]

    Process("transcribe", overtaken).process()

    job = jobs.get("j")
    assert (job.status, job.transcript) == ("transcribing", None)
    assert audio.exists("j")  # the other attempt still needs it
    assert queues.depths()["enrich"].waiting == 0


@pytest.mark.parametrize("enrich", [True, False], ids=["unfinished", "ended"])
def test_an_attempt_that_lost_its_connection_after_it_finished_is_tidied_up_by_the_next(enrich):
    """Redis has stored the result, and the answer was lost: the message is retried."""
    decoded(enrich=enrich)
    worker = Process("transcribe")
    finish = worker.runner._store.jobs.finish

    def cut_off(*arguments, **keywords):
        finish(*arguments, **keywords)
        raise redis.ConnectionError("Connection reset by peer")

    lossy = SimpleNamespace(**{name: getattr(jobs, name) for name in ("get", "begin", "progress", "wanted")})
    lossy.finish = cut_off
    worker.runner._store = SimpleNamespace(jobs=lossy, audio=audio, queues=queues)
    worker.process()
    assert audio.exists("j")
    assert queues.depths()["transcribe"].delayed == 1
    queues.push(letter("transcribe", "j"))

    Process("transcribe", never).process()

    assert not audio.exists("j")
    assert jobs.get("j").status == ("transcribed" if enrich else "done")
    assert queues.depths()["enrich"].waiting == (1 if enrich else 0)


def test_the_audio_of_a_failed_job_is_kept_for_a_retry():
    decoded()
    jobs.fail("j", "transcribe", JobError(ErrorCode.OUT_OF_MEMORY, "no"))

    Process("transcribe", never).process()

    assert audio.exists("j")


def test_waiting_windows_of_a_cancelled_job_are_dropped():
    future, submitted = Future(), threading.Event()
    engine = SimpleNamespace(alive=True, submit=lambda *_: submitted.set() or future)
    decoded()
    thread = threading.Thread(target=Process("transcribe", Transcribing(engine)).process)
    thread.start()
    assert submitted.wait(10)

    jobs.cancel("j")
    thread.join(10)

    assert future.cancelled()
    assert not thread.is_alive()
    assert queues.depths()["enrich"].waiting == 0
    assert jobs.get("j").status == "cancelled"
