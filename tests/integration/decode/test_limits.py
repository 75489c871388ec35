"""No message takes more than its share of time, memory, disk or processes."""

import errno
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from processes import becomes

from pipeline.decode import cage
from voicemill.errors import JobError


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_the_limit_counts_decoded_sound_and_not_the_header(code, decode, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono:d=7200", "-c:a", "flac", media / "bomb.flac")
    assert (media / "bomb.flac").stat().st_size < 2_000_000  # two hours of silence in little space
    assert code("bomb.flac", max_duration=60) == "too_long"
    data = bytearray((media / "bomb.flac").read_bytes())
    data[21:26] = struct.pack(">BI", data[21] & 0xF0, 16000)  # the header says one second now
    (media / "liar.flac").write_bytes(data)
    assert code("liar.flac", max_duration=60) == "too_long"


def test_a_bomb_is_stopped_at_the_limit_on_disk(media, ffmpeg, tmp_path, decode):
    ffmpeg("-f", "lavfi", "-i", "anoisesrc=r=16000:d=60", "-c:a", "libopus", "-b:a", "8k", media / "noise.ogg")
    with pytest.raises(JobError, match="too_long"):
        decode("noise.ogg", max_duration=5)
    assert sum(path.stat().st_size for path in tmp_path.glob("job-*/*")) < 6 * 32000 * 1.1


def test_a_message_as_long_as_the_limit_is_taken(decode, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "sine=d=5:sample_rate=16000", media / "five.wav")
    assert decode("five.wav", max_duration=5).duration == 5


def test_a_message_that_is_too_short_says_so(code, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.02:sample_rate=16000", media / "click.wav")
    assert code("click.wav") == "too_short"
    assert code("click.wav", min_duration=0.01) == "decoded"


def test_a_file_that_is_too_large_is_not_read(code, media):
    with (media / "large.wav").open("wb") as file:
        file.truncate(10**9)
    assert code("large.wav", max_source_bytes=10**8) == "source_too_large"


def test_a_run_that_takes_too_long_is_ended(code, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "anoisesrc=r=48000:d=600", "-c:a", "pcm_s16le", media / "long.wav")
    started = time.monotonic()
    assert code("long.wav", decode_timeout=0.15) == "decode_timeout"
    assert time.monotonic() - started < 20


def ended_by_the_clock(command, folder, **options):
    """Run a program that does not end, for as long as it takes on this machine until it has said something."""
    for seconds in (0.5, 5, 50):
        with Path(os.devnull).open("rb") as nothing:
            outcome = cage.run(command, nothing, folder, seconds=seconds, **options)
        assert outcome.timed_out
        if outcome.output:
            break
    return outcome


def test_a_program_is_killed_with_all_that_it_started(tmp_path):
    script = "sleep 60 & echo $! ; sleep 60"
    outcome = ended_by_the_clock(["sh", "-c", script], tmp_path)
    try:
        grandchild = os.pidfd_open(int(outcome.output))
    except ProcessLookupError:
        return
    assert select.select([grandchild], [], [], 30)[0], "it lives on"
    os.close(grandchild)


def test_a_program_that_talks_without_end_fills_no_memory(tmp_path):
    outcome = ended_by_the_clock(["sh", "-c", "yes error >&2 & yes"], tmp_path, keep=1000)
    assert len(outcome.output) == 1000
    assert len(outcome.said) < 2 * cage.STDERR + 2**16


def test_a_program_that_takes_too_much_memory_is_refused_it(tmp_path):
    # It waits for its bound, which is set a moment after its start.
    script = f"import resource as r\nwhile r.getrlimit(r.RLIMIT_AS)[0] == -1: pass\nbytearray({2 * cage.MEMORY})"
    with Path(os.devnull).open("rb") as nothing:
        outcome = cage.run([sys.executable, "-c", script], nothing, tmp_path, seconds=30)
    assert "MemoryError" in outcome.said


def test_a_program_that_writes_too_much_is_ended(tmp_path):
    with Path(os.devnull).open("rb") as nothing:
        # It waits for its bound, which is set a moment after its start.
        script = "while [ $(ulimit -f) = unlimited ]; do :; done; while :; do echo voice; done > large"
        outcome = cage.run(["sh", "-c", script], nothing, tmp_path, seconds=20, file_size=1000)
    with pytest.raises(JobError, match="disk_full"):
        cage.judge(outcome, "FFmpeg", 20)
    assert (tmp_path / "large").stat().st_size == 1000


def test_a_program_has_a_bound_on_its_use_of_the_processor(tmp_path):
    """It is what ends a program of several threads, or one that no worker and no `setpriv` watches any more."""
    with Path(os.devnull).open("rb") as nothing:
        # It ends as soon as it sees its bound, and else is ended by the clock.
        waits = 'until [ "$(ulimit -t)" = 21 ]; do :; done'
        assert cage.run(["sh", "-c", waits], nothing, tmp_path, seconds=20).status == 0
        outcome = cage.run(["sh", "-c", "kill -XCPU $$"], nothing, tmp_path, seconds=20)
    with pytest.raises(JobError, match="decode_timeout"):
        cage.judge(outcome, "FFmpeg", 20)


def test_a_program_sees_nothing_of_the_workers_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "secret")
    with Path(os.devnull).open("rb") as nothing:
        outcome = cage.run(["env"], nothing, tmp_path, seconds=30)
    assert b"secret" not in outcome.output


def test_a_killed_program_and_a_missing_one_are_told(tmp_path):
    with Path(os.devnull).open("rb") as nothing:
        killed = cage.run(["sh", "-c", "kill -KILL $$"], nothing, tmp_path, seconds=30)
        with pytest.raises(JobError, match="decode_crashed"):
            cage.judge(killed, "FFmpeg", 10)
        with pytest.raises(JobError, match="install ffmpeg"):
            cage.run(["no-such-program"], nothing, tmp_path, seconds=30)


def test_what_ffmpeg_wrote_before_it_was_told_to_stop_is_no_message(tmp_path):
    """As systemd or docker stop does it, with all processes at once: FFmpeg ends its file in good order."""
    ended = []

    def work():
        with Path(os.devnull).open("rb") as nothing:
            script = "echo $$ > pid; exec ffmpeg -nostdin -v error -re -f lavfi -i sine part.wav"
            ended.append(cage.run(["sh", "-c", script], nothing, tmp_path, seconds=30, file_size=10**8))

    thread = threading.Thread(target=work)
    thread.start()
    assert becomes((tmp_path / "part.wav").exists)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    thread.join(60)

    with pytest.raises(JobError, match="decode_crashed"):
        cage.judge(ended[0], "FFmpeg", 30)
    assert ended[0].status > 0


def test_no_process_outlives_its_message(decode, code, media, voice):
    (media / "voice.wav").write_bytes(voice.read_bytes())
    decode("voice.wav")
    code("voice.wav", decode_timeout=0.01)
    assert not [pid for pid in children(os.getpid()) if "ff" in Path(f"/proc/{pid}/comm").read_text()]


def test_a_worker_that_is_told_to_stop_takes_ffmpeg_with_it(tmp_path):
    """As Dramatiq does it: an exception is raised in the thread that decodes."""
    import ctypes

    started, ended = threading.Event(), []

    def work():
        try:
            with Path(os.devnull).open("rb") as nothing:
                started.set()
                cage.run(["sh", "-c", "echo $$; while :; do sleep 0.05; echo; done"], nothing, tmp_path, seconds=30)
        except KeyboardInterrupt as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    time.sleep(0.2)  # so that the program runs: there is no event of it from outside
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
    thread.join(60)
    assert ended
    assert not [pid for pid in children(os.getpid()) if Path(f"/proc/{pid}/comm").read_text() == "sh\n"]


def test_ffmpeg_ends_with_a_worker_that_is_killed(tmp_path):
    script = """
        from pathlib import Path
        from pipeline.decode import cage
        with Path("/dev/null").open("rb") as nothing:
            command = ["sh", "-c", "echo $$ > pid; mv pid started; exec sleep 60"]
            cage.run(command, nothing, Path.cwd(), seconds=60, file_size=99)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, env=environment)
    assert becomes((tmp_path / "started").exists)
    program = os.pidfd_open(int((tmp_path / "started").read_text()))
    worker.kill()
    worker.wait()
    assert select.select([program], [], [], 30)[0], "it lives on"
    os.close(program)


@pytest.mark.parametrize("size", [20_000, 400_000], ids=["while decoding", "while fetching"])
def test_a_full_disk_ends_in_its_code(voice, tmp_path, size):
    """The file size that the process and its children may write stands for the space that is left."""
    script = """
        import base64, resource, sys
        from pathlib import Path
        from config.settings import Settings
        from pipeline.decode import decode
        import os
        root, limit = sys.argv[1], int(sys.argv[2])
        source = sys.argv[3]
        if source == "data":
            source = "data:;base64," + base64.b64encode(os.urandom(500_000)).decode()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            decode(source, Path.cwd(), Settings(media_root=root))
        except JobError as error:
            print(error.code)
    """
    source = voice.name if size == 20_000 else "data"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(voice.parent), str(size), source],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-1:] == ["disk_full"], done.stderr


def test_a_temporary_folder_that_is_gone_or_full_is_named(tmp_path, monkeypatch):
    from pipeline.decode import workspace

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(JobError, match=r"worker_unfit.* TMPDIR .*No such file"), workspace.workspace():
        pass

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "mkdir", no_inodes_left)
    with pytest.raises(JobError, match=r"disk_full.* TMPDIR .*No space left"), workspace.workspace():
        pass


def no_inodes_left(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_killed_workers_folder_is_swept_and_a_living_ones_is_not(tmp_path, monkeypatch):
    from pipeline.decode import workspace

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    script = "from pipeline.decode.workspace import workspace as w\nwith w() as f:\n print(f, flush=True)\n input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3], **pipes)
    theirs = Path(worker.stdout.readline().strip())
    (theirs / "source").write_bytes(b"voice")
    with workspace.workspace() as ours:
        assert workspace.sweep() == 0
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        assert workspace.sweep() == 1
        assert not theirs.exists()
        assert ours.exists()
    assert not ours.exists()


def test_a_folder_that_is_just_being_made_is_not_swept(tmp_path, monkeypatch):
    from pipeline.decode import workspace

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"{workspace.PREFIX}new").mkdir()
    assert workspace.sweep() == 0
    os.utime(tmp_path / f"{workspace.PREFIX}new", (0, 0))
    assert workspace.sweep() == 1
