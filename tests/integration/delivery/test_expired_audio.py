"""Audio that expired before its turn is made again from what was uploaded, as long as that is there."""

from pathlib import Path

from live import audio, current, jobs, store
from processes import becomes

from actors.attempt import Attempt
from actors.runner import Runner
from config import settings
from pipeline.transcribe.stage import Transcribing
from voicemill import decode
from voicemill.store import keys
from voicemill.store.queue import SCHEMA

SAMPLE = Path(__file__).parents[3] / "samples" / "voice-message.ogg"


def decoded(job_id):
    return becomes(lambda: jobs.get(job_id).status == "decoded")


def test_expired_audio_is_made_again_from_its_upload_and_without_one_the_job_fails_as_expired(workers):
    def transcribe(job_id):
        Runner("transcribe", Transcribing(engine=None), current(), settings.get(), Attempt()).run(
            job_id, (job_id,), {"schema": SCHEMA}
        )

    workers.start_stage("decode")
    source = audio.upload(SAMPLE.read_bytes())
    job_id = decode.send(source, enrich=False).message_id
    assert decoded(job_id)
    upload_id = source.removeprefix("upload:")
    assert store.redis.ttl(keys.upload(upload_id)) > store.redis.ttl(keys.audio(job_id)) + 80_000

    audio.delete(job_id)  # as its expiry does
    transcribe(job_id)
    assert decoded(job_id)
    assert jobs.get(job_id).redecodes == 1
    assert audio.exists(job_id)

    audio.delete(job_id)
    audio.delete_upload(source)
    transcribe(job_id)
    job = jobs.wait(job_id, timeout=60)
    assert (job.status, job.error.stage, job.error.code) == ("failed", "decode", "handoff_expired")
