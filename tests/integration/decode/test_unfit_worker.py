"""A decode worker whose machine is unfit fails no job: it returns the message, pauses, and resumes once fit."""

import os
import resource
import shutil
from pathlib import Path

import pytest
from live import audio, jobs, queues, workers
from processes import becomes, children, command

from pipeline.decode import selftest
from voicemill import decode
from voicemill.errors import JobError

CLONE = Path(__file__).parents[3]
VOICE = CLONE / "samples" / "voice-message.ogg"
PROGRAMS = ("ffmpeg", "ffprobe", "setpriv")

pytestmark = pytest.mark.usefixtures("redis_url")


def own_programs(folder):
    """Return a folder for PATH whose programs a test may remove and restore."""
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(shutil.which(name))
    return folder


def break_program(path):
    """Replace a program by one that always fails."""
    path.unlink()
    path.write_text("#!/bin/sh\necho 'Unknown encoder' >&2\nexit 1\n")
    path.chmod(0o755)
    return path


FAULTS = {
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


@pytest.mark.processes
def test_unfit_workers_take_no_message_from_a_healthy_one(dramatiq, until, tmp_path, voices):
    unfit = []
    for number, break_down in enumerate(FAULTS.values()):
        folder = own_programs(tmp_path / str(number))
        break_down(folder)
        unfit.append(dramatiq("actors.decode", "--threads", "2", PATH=str(folder)))
    for worker in unfit:
        assert any("Worker paused" in line for line in until(worker, "Stage ready"))

    ids = voices(20)
    until(dramatiq("actors.decode", "--threads", "2"), "Stage ready")

    assert becomes(lambda: statuses(ids) == {"decoded"}, 60)
    assert {jobs.get(job_id).stages["decode"].attempts for job_id in ids} == {1}


@pytest.mark.processes
def test_a_worker_that_becomes_unfit_returns_messages_uncounted_and_resumes(dramatiq, until, tmp_path, voices):
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


@pytest.mark.processes
def test_a_worker_whose_disk_fills_up_returns_messages_and_resumes(dramatiq, until, voices):
    """A limit on the size of files simulates the full disk, which only root could create."""
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


@pytest.mark.processes
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
def test_a_missing_media_root_makes_a_worker_unfit(tmp_path, root):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(JobError, match=f"worker_unfit: MEDIA_ROOT is {tmp_path / root}"):
        selftest.run(tmp_path / root)


def test_a_temporary_folder_without_room_makes_a_worker_unfit():
    with pytest.raises(JobError, match=r"disk_full: less than \d+ MiB can be written"):
        selftest.run(None, room=2**60)
