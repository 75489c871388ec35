"""Audio that expired before its turn is made again from what was uploaded, as long as that is there."""

from pathlib import Path

from live import audio, jobs, store
from processes import becomes

from actors import decode
from actors.transcribe import transcribe

SAMPLE = Path(__file__).parents[3] / "samples" / "voice-message.ogg"


def ttl(kind, name):
    return store.redis.ttl(audio._key(kind, name))


def decoded(job_id):
    return becomes(lambda: jobs.get(job_id).status == "decoded")


def test_expired_audio_is_made_again_from_its_upload_and_told_to_have_expired_without(workers):
    workers.start("from actors.decode import decode")
    source = audio.upload(SAMPLE.read_bytes())
    job_id = decode.send(source, enrich=False).message_id
    assert decoded(job_id)
    assert ttl("upload", source.removeprefix("upload:")) > ttl("audio", job_id) + 80_000

    audio.delete(job_id)  # as its time does
    transcribe.fn(job_id)
    assert decoded(job_id)
    assert jobs.get(job_id).redecodes == 1
    assert audio.exists(job_id)

    audio.delete(job_id)
    audio.delete_upload(source)
    transcribe.fn(job_id)
    job = jobs.wait(job_id, timeout=60)
    assert (job.status, job.error.stage, job.error.code) == ("failed", "decode", "handoff_expired")
