"""Hostile and broken messages fail with the right code, and make no worker read what it must not."""

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

from pipeline.decode import convert, probe, sandbox
from voicemill import decode
from voicemill.errors import JobError


@pytest.fixture(scope="module")
def hostile(voice, tmp_path_factory):
    """A MEDIA_ROOT of hostile and broken files, and their cases. What they refer to lies beside it."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "media").mkdir()
    secret = folder / "secret.wav"
    secret.write_bytes(voice.read_bytes())
    return folder / "media", hostile_files.build(folder / "media", secret)


@pytest.mark.processes
def test_every_hostile_or_broken_file_fails_with_its_code_and_the_worker_survives(
    hostile, redis_url, dramatiq, until, tmp_path
):
    media, cases = hostile
    process = dramatiq("actors.decode", "--threads", "3", MEDIA_ROOT=str(media), TMPDIR=str(tmp_path))
    until(process, "ready for action")
    threading.Thread(target=process.stdout.read, daemon=True).start()  # or the worker blocks on a full pipe
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
    """Return the peak resident memory of a process (bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def test_ffmpeg_would_follow_the_movie_that_points_outside_if_it_were_allowed_to(hostile, voice):
    options = ["-enable_drefs", "1", "-use_absolute_path", "1", "-i", hostile[0] / "outside.mov"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *options, "-f", "s16le", "pipe:1"]
    samples = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(samples) > 6 * 2 * 22050
    assert samples in voice.read_bytes()


@pytest.mark.parametrize("kind", ["a URL", "a list of files"])
def test_neither_program_opens_anything_but_its_input(kind, voice, tmp_path, monkeypatch):
    """No permitted container refers to other files, so something that does takes the place of the message."""
    (tmp_path / "list").write_text("ffconcat version 1.0\nfile 'voice.wav'\n")
    (tmp_path / "voice.wav").write_bytes(voice.read_bytes())
    with misbehaving.serving(voice.read_bytes()) as server, voice.open("rb") as file:
        sound = probe.probe(file, tmp_path, None)
        reference = ("-i", server.url("good") if kind == "a URL" else "file:list")
        for unrestricted in (["ffprobe", *reference], ["ffmpeg", *reference, "-f", "null", "-"]):
            assert sandbox.run(unrestricted, file, tmp_path, seconds=60).status == 0
        server.asked.clear()
        monkeypatch.setattr(sandbox, "INPUT", reference)
        with pytest.raises(JobError, match="undecodable"):
            probe.probe(file, tmp_path, None)
        with pytest.raises(JobError, match="undecodable"):
            convert.convert(file, sound, tmp_path, longest=60, seconds=60)
    assert server.asked == []


@pytest.fixture
def connected(monkeypatch):
    """The addresses to which connections were attempted; no hostile URL may lead to one."""
    asked = []

    def refuse(address, *_, **__):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    return asked


def test_every_hostile_url_fails_with_its_code_and_without_a_connection(code, connected):
    outcomes = [(address, code(address), codes) for address, codes in hostile_urls.CASES]
    assert [(address[:80], found) for address, found, codes in outcomes if found not in codes] == []
    assert connected == []
    assert len(outcomes) >= 60


def test_a_symbolic_link_created_after_the_check_is_not_followed(media, tmp_path, monkeypatch):
    """The opened file is checked again by where it really is."""
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
