"""A decode worker whose own machine is at fault fails no job: it hands the message back, pauses, and resumes."""

import os
import resource
import shutil
from pathlib import Path

import pytest
from live import audio, jobs, queues, workers
from processes import becomes, children, command

from actors import decode
from pipeline.decode import selftest
from voicemill.errors import JobError

CLONE = Path(__file__).parents[3]
VOICE = CLONE / "samples" / "voice-message.ogg"
PROGRAMS = ("ffmpeg", "ffprobe", "setpriv")

pytestmark = pytest.mark.usefixtures("redis_url")


def own_programs(folder):
    """Return a PATH of the test's own, whose programs it may take away and give back."""
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(shutil.which(name))
    return folder


def break_program(path):
    """Put a program that always fails in the place of another."""
    path.unlink()
    path.write_text("#!/bin/sh\necho 'Unknown encoder' >&2\nexit 1\n")
    path.chmod(0o755)
    return path


SICKNESSES = {
    "no ffmpeg": lambda folder: (folder / "ffmpeg").unlink(),
    "no ffprobe": lambda folder: (folder / "ffprobe").unlink(),
    "an ffmpeg that may not be executed": lambda folder: break_program(folder / "ffmpeg").chmod(0o644),
    "an ffmpeg without the encoder": lambda folder: break_program(folder / "ffmpeg"),
    "an ffprobe that reads nothing": lambda folder: break_program(folder / "ffprobe"),
}


@pytest.fixture
def voices():
    """Send the sample so many times; return the jobs' ids."""

    def send(count):
        source = audio.upload(VOICE.read_bytes())
        return [decode.send(source, language="en").message_id for _ in range(count)]

    return send


def statuses(ids):
    return {jobs.get(job_id).status for job_id in ids}


def test_unfit_workers_take_no_message_from_a_healthy_one(dramatiq, until, tmp_path, voices):
    sick = []
    for number, fall_ill in enumerate(SICKNESSES.values()):
        folder = own_programs(tmp_path / str(number))
        fall_ill(folder)
        sick.append(dramatiq("actors.decode", "--threads", "2", PATH=str(folder)))
    for worker in sick:
        assert any("Worker paused" in line for line in until(worker, "Stage ready"))

    ids = voices(20)
    until(dramatiq("actors.decode", "--threads", "2"), "Stage ready")

    assert becomes(lambda: statuses(ids) == {"decoded"}, 60)
    assert {jobs.get(job_id).stages["decode"].attempts for job_id in ids} == {1}


def test_a_worker_that_becomes_unfit_hands_messages_back_uncounted_and_resumes(dramatiq, until, tmp_path, voices):
    programs = own_programs(tmp_path / "programs")
    worker = dramatiq("actors.decode", "--threads", "2", PATH=str(programs))
    until(worker, "Stage ready")
    (programs / "ffmpeg").unlink()

    ids = voices(10)

    lines = until(worker, "Worker paused") + until(worker, "Message handed back")
    assert not any("Job failed" in line for line in lines)
    assert becomes(lambda: [each.paused for each in workers.alive()] != [None])
    assert "ffmpeg is not installed" in (workers.alive()[0].paused or "")
    (programs / "ffmpeg").symlink_to(shutil.which("ffmpeg"))
    until(worker, "Worker resumed")
    assert becomes(lambda: statuses(ids) == {"decoded"}, 60)
    assert queues.depths()["decode"].dead == 0


def test_a_worker_whose_disk_fills_up_hands_messages_back_and_resumes(dramatiq, until, voices):
    """The kernel's limit on a file's size stands for a full disk, which would take root to make."""
    master = dramatiq("actors.decode", "--threads", "2")
    until(master, "Stage ready")
    [worker] = [pid for pid in children(master.pid) if "actors.decode" in command(pid)]
    _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (8192, hard))

    ids = voices(10)

    lines = until(master, "Worker paused") + until(master, "Message handed back")
    assert not any("Job failed" in line for line in lines)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))
    until(master, "Worker resumed")
    assert becomes(lambda: statuses(ids) == {"decoded"}, 60)


def test_broken_files_do_not_pause_a_worker(dramatiq, until, voices):
    worker = dramatiq("actors.decode", "--threads", "2")
    until(worker, "Stage ready")
    broken = [decode.send(audio.upload(os.urandom(5000))).message_id for _ in range(10)]
    good = voices(2)

    assert becomes(lambda: statuses(good) == {"decoded"}, 60)
    assert becomes(lambda: statuses(broken) == {"failed"}, 60)

    assert {jobs.get(job_id).error.code for job_id in broken} == {"undecodable"}
    assert [each.paused for each in workers.alive()] == [None]


def test_this_machine_passes_its_self_test(tmp_path):
    selftest.run(None)
    selftest.run(tmp_path)


@pytest.mark.parametrize("root", ["missing", "file"])
def test_a_media_root_that_is_not_there_makes_a_worker_unfit(tmp_path, root):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(JobError, match=f"worker_unfit: MEDIA_ROOT is {tmp_path / root}"):
        selftest.run(tmp_path / root)


def test_a_temporary_folder_without_room_makes_a_worker_unfit(monkeypatch):
    monkeypatch.setattr(selftest, "FREE", 2**60)
    with pytest.raises(JobError, match=r"disk_full: less than \d+ MiB can be written"):
        selftest.run(None)
