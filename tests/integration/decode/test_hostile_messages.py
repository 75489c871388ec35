"""Whatever comes in: it ends in its code, and nothing is read that should not be."""

import re
import socket
import subprocess
import threading
from pathlib import Path

import hostile_files
import hostile_urls
import misbehaving
import pytest
from live import jobs
from processes import children

from actors import decode
from pipeline.decode import cage, convert, probe
from voicemill.errors import JobError


@pytest.fixture(scope="module")
def hostile(voice, tmp_path_factory):
    """A MEDIA_ROOT of hostile and broken files, and these. What they point at lies beside it."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "media").mkdir()
    secret = folder / "secret.wav"
    secret.write_bytes(voice.read_bytes())
    return folder / "media", hostile_files.build(folder / "media", secret)


def test_every_hostile_or_broken_file_ends_in_its_code_and_the_worker_lives_on(
    hostile, redis_url, dramatiq, until, tmp_path
):
    media, cases = hostile
    process = dramatiq("actors.decode", "--threads", "3", MEDIA_ROOT=str(media), TMPDIR=str(tmp_path))
    until(process, "ready for action")
    threading.Thread(target=process.stdout.read, daemon=True).start()  # or the worker waits for a reader of its log
    workers = children(process.pid)

    sent = {case.name: decode.send(case.name).message_id for case in cases}
    ended = {}
    for name, job_id in sent.items():
        next(event for event in jobs.events(job_id, timeout=100) if event.status in ("decoded", "failed"))
        ended[name] = jobs.get(job_id)

    codes = {name: job.error.code if job.error else job.status for name, job in ended.items()}
    assert {case.name: codes[case.name] for case in cases if codes[case.name] not in case.codes} == {}
    assert len(codes) >= 150
    assert {job.stages["decode"].attempts for job in ended.values()} == {1}
    assert children(process.pid) == workers
    assert max(map(most_memory, workers)) < 128 * 1024**2  # less than half of it is taken
    assert list(tmp_path.iterdir()) == []


def most_memory(pid):
    """The most bytes that a process has held so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def test_the_movie_that_points_outside_is_one_that_ffmpeg_can_be_told_to_follow(hostile, voice):
    told = ["-enable_drefs", "1", "-use_absolute_path", "1", "-i", hostile[0] / "outside.mov"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *told, "-f", "s16le", "pipe:1"]
    samples = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(samples) > 6 * 2 * 22050
    assert samples in voice.read_bytes()


@pytest.mark.parametrize("lead", ["an address", "a list"])
def test_neither_program_opens_what_it_is_not_given(lead, voice, tmp_path, monkeypatch):
    """No container that is allowed leads elsewhere; so what does takes the place of the message."""
    (tmp_path / "list").write_text("ffconcat version 1.0\nfile 'voice.wav'\n")
    (tmp_path / "voice.wav").write_bytes(voice.read_bytes())
    with misbehaving.serving(voice.read_bytes()) as server, voice.open("rb") as file:
        monkeypatch.setattr(cage, "INPUT", ("-i", server.url("good") if lead == "an address" else "file:list"))
        with monkeypatch.context() as free:
            free.setattr(cage, "FORBID", ())
            sound = probe.probe(file, tmp_path, None)
            convert.convert(file, sound, tmp_path, longest=60, seconds=60).path.unlink()
        server.asked.clear()
        with pytest.raises(JobError, match="undecodable"):
            probe.probe(file, tmp_path, None)
        with pytest.raises(JobError, match="undecodable"):
            convert.convert(file, sound, tmp_path, longest=60, seconds=60)
    assert server.asked == []


@pytest.fixture
def connected(monkeypatch):
    """Record whom a connection is made to; none of the hostile addresses may lead to one."""
    asked = []

    def refuse(address, *_, **__):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    return asked


def test_every_hostile_address_ends_in_its_code_without_a_connection(code, connected):
    outcomes = [(address, code(address), codes) for address, codes in hostile_urls.CASES]
    assert [(address[:80], found) for address, found, codes in outcomes if found not in codes] == []
    assert connected == []
    assert len(outcomes) >= 60


def test_a_link_that_is_put_in_place_after_the_check_leads_nowhere(media, tmp_path, monkeypatch):
    """The opened file is judged once more by where it really is."""
    from pipeline.decode.sources import local

    (tmp_path / "secret").write_text("secret")
    (media / "voice.ogg").write_text("voice")
    real = local.os.open

    def swapped(path, *arguments):
        (media / "voice.ogg").unlink()
        (media / "voice.ogg").symlink_to(tmp_path / "secret")
        return real(path, *arguments)

    monkeypatch.setattr(local.os, "open", swapped)
    with pytest.raises(JobError, match="source_forbidden"):
        local.open_path("voice.ogg", str(media))
