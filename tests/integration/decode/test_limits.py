"""No message exceeds its limits of time, memory, disk or processes."""

import errno
import os
import select
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from processes import becomes

from pipeline.decode import sandbox
from pipeline.decode.workspace import PREFIX, sweep, workspace
from voicemill.errors import JobError


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_the_longest_duration_is_measured_and_not_read_from_the_header(code, decode, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono:d=7200", "-c:a", "flac", media / "bomb.flac")
    assert (media / "bomb.flac").stat().st_size < 2_000_000  # two hours of silence in little space
    assert code("bomb.flac", max_duration=60) == "too_long"
    data = bytearray((media / "bomb.flac").read_bytes())
    data[21:26] = struct.pack(">BI", data[21] & 0xF0, 16000)  # the header says one second now
    (media / "liar.flac").write_bytes(data)
    assert code("liar.flac", max_duration=60) == "too_long"


def test_decoding_stops_at_the_longest_duration_before_the_disk_fills(media, ffmpeg, tmp_path, decode):
    ffmpeg("-f", "lavfi", "-i", "anoisesrc=r=16000:d=60", "-c:a", "libopus", "-b:a", "8k", media / "noise.ogg")
    with pytest.raises(JobError, match="too_long"):
        decode("noise.ogg", max_duration=5)
    assert sum(path.stat().st_size for path in tmp_path.glob("job-*/*")) < 6 * 32000 * 1.1


def test_a_message_of_exactly_the_longest_duration_is_accepted(decode, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "sine=d=5:sample_rate=16000", media / "five.wav")
    assert decode("five.wav", max_duration=5).duration == 5


def test_a_message_that_is_too_short_fails_as_such(code, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.02:sample_rate=16000", media / "click.wav")
    assert code("click.wav") == "too_short"
    assert code("click.wav", min_duration=0.01) == "decoded"


def test_a_file_that_is_too_large_is_not_read(code, media):
    with (media / "large.wav").open("wb") as file:
        file.truncate(10**9)
    assert code("large.wav", max_source_bytes=10**8) == "source_too_large"


def test_a_run_that_takes_too_long_is_killed(code, media, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "anoisesrc=r=48000:d=600", "-c:a", "pcm_s16le", media / "long.wav")
    started = time.monotonic()
    assert code("long.wav", decode_timeout=0.15) == "decode_timeout"
    assert time.monotonic() - started < 20


def run_until_output(command, folder, **options):
    """Run a program that never ends, for as long as it takes on this machine to print something."""
    for seconds in (0.5, 5, 50):
        with Path(os.devnull).open("rb") as nothing:
            outcome = sandbox.run(command, nothing, folder, seconds=seconds, **options)
        assert outcome.timed_out
        if outcome.output:
            break
    return outcome


def test_a_program_is_killed_with_its_descendants(tmp_path):
    script = "sleep 60 & echo $! ; sleep 60"
    outcome = run_until_output(["sh", "-c", script], tmp_path)
    try:
        grandchild = os.pidfd_open(int(outcome.output))
    except ProcessLookupError:
        return
    assert select.select([grandchild], [], [], 30)[0], "it lives on"
    os.close(grandchild)


def test_endless_output_of_a_program_does_not_fill_memory(tmp_path):
    outcome = run_until_output(["sh", "-c", "yes error >&2 & yes"], tmp_path, keep=1000)
    assert len(outcome.output) == 1000
    assert len(outcome.errors) < 2 * sandbox.STDERR + 2**16


def test_a_program_cannot_allocate_more_than_its_limit(tmp_path):
    # It waits for its limit, which is set a moment after its start.
    script = f"import resource as r\nwhile r.getrlimit(r.RLIMIT_AS)[0] == -1: pass\nbytearray({2 * sandbox.MEMORY})"
    with Path(os.devnull).open("rb") as nothing:
        outcome = sandbox.run([sys.executable, "-c", script], nothing, tmp_path, seconds=30)
    assert "MemoryError" in outcome.errors


def test_a_program_that_writes_too_large_a_file_is_killed(tmp_path):
    with Path(os.devnull).open("rb") as nothing:
        # It waits for its limit, which is set a moment after its start.
        script = "while [ $(ulimit -f) = unlimited ]; do :; done; while :; do echo voice; done > large"
        outcome = sandbox.run(["sh", "-c", script], nothing, tmp_path, seconds=20, file_size=1000)
    with pytest.raises(JobError, match="disk_full"):
        sandbox.judge(outcome, "FFmpeg", 20)
    assert (tmp_path / "large").stat().st_size == 1000


def test_a_program_has_a_limit_on_cpu_time(tmp_path):
    """It ends a program that has several threads, or that outlived its worker on a machine without `setpriv`."""
    with Path(os.devnull).open("rb") as nothing:
        # It ends as soon as it sees its limit, or else at the time limit.
        waits = 'until [ "$(ulimit -t)" = 21 ]; do :; done'
        assert sandbox.run(["sh", "-c", waits], nothing, tmp_path, seconds=20).status == 0
        outcome = sandbox.run(["sh", "-c", "kill -XCPU $$"], nothing, tmp_path, seconds=20)
    with pytest.raises(JobError, match="decode_timeout"):
        sandbox.judge(outcome, "FFmpeg", 20)


def test_a_program_sees_nothing_of_the_workers_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "secret")
    with Path(os.devnull).open("rb") as nothing:
        outcome = sandbox.run(["env"], nothing, tmp_path, seconds=30)
    assert b"secret" not in outcome.output


def test_a_killed_program_and_a_missing_one_are_reported(tmp_path):
    with Path(os.devnull).open("rb") as nothing:
        killed = sandbox.run(["sh", "-c", "kill -KILL $$"], nothing, tmp_path, seconds=30)
        with pytest.raises(JobError, match="decode_crashed"):
            sandbox.judge(killed, "FFmpeg", 10)
        with pytest.raises(JobError, match="install ffmpeg"):
            sandbox.run(["no-such-program"], nothing, tmp_path, seconds=30)


def test_a_file_that_ffmpeg_wrote_before_sigterm_is_not_taken_for_a_message(tmp_path):
    """systemd and docker stop may signal all processes at once, and FFmpeg then completes its file properly."""
    ended = []

    def work():
        with Path(os.devnull).open("rb") as nothing:
            script = "echo $$ > pid; exec ffmpeg -nostdin -v error -re -f lavfi -i sine part.wav"
            ended.append(sandbox.run(["sh", "-c", script], nothing, tmp_path, seconds=30, file_size=10**8))

    thread = threading.Thread(target=work)
    thread.start()
    assert becomes((tmp_path / "part.wav").exists)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    thread.join(60)

    with pytest.raises(JobError, match="decode_crashed"):
        sandbox.judge(ended[0], "FFmpeg", 30)
    assert ended[0].status > 0


def test_no_process_outlives_its_message(decode, code, media, voice):
    (media / "voice.wav").write_bytes(voice.read_bytes())
    decode("voice.wav")
    code("voice.wav", decode_timeout=0.01)
    assert not [pid for pid in children(os.getpid()) if "ff" in Path(f"/proc/{pid}/comm").read_text()]


def test_ffmpeg_is_killed_when_the_thread_of_its_worker_is_interrupted(tmp_path):
    """As Dramatiq does it: it raises an exception in the thread that decodes."""
    import ctypes

    started, ended = threading.Event(), []

    def work():
        try:
            with Path(os.devnull).open("rb") as nothing:
                started.set()
                sandbox.run(["sh", "-c", "echo $$; while :; do sleep 0.05; echo; done"], nothing, tmp_path, seconds=30)
        except KeyboardInterrupt as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    time.sleep(0.2)  # so that the program runs: nothing signals that it does
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
    thread.join(60)
    assert ended
    assert not [pid for pid in children(os.getpid()) if Path(f"/proc/{pid}/comm").read_text() == "sh\n"]


def test_ffmpeg_dies_with_a_killed_worker(tmp_path):
    script = """
        from pathlib import Path
        from pipeline.decode import sandbox
        with Path("/dev/null").open("rb") as nothing:
            command = ["sh", "-c", "echo $$ > pid; mv pid started; exec sleep 60"]
            sandbox.run(command, nothing, Path.cwd(), seconds=60, file_size=99)
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
def test_a_full_disk_fails_with_its_code(voice, tmp_path, size):
    """A limit on the size of files, which the children inherit, simulates the full disk."""
    script = """
        import base64, resource, sys
        from pathlib import Path
        from config.settings import Settings
        from pipeline.decode import decode
        from voicemill.errors import JobError
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
    with pytest.raises(JobError, match=r"worker_unfit.* TMPDIR .*No such file"), workspace(tmp_path / "gone"):
        pass

    monkeypatch.setattr(os, "mkdir", no_inodes_left)
    with pytest.raises(JobError, match=r"disk_full.* TMPDIR .*No space left"), workspace(tmp_path):
        pass


def no_inodes_left(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_folder_of_a_killed_worker_is_swept_and_that_of_a_live_one_is_not(tmp_path):
    script = "from pipeline.decode.workspace import workspace as w\nwith w() as f:\n print(f, flush=True)\n input()"
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[3]}
    worker = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"TMPDIR": str(tmp_path)}, **options)
    theirs = Path(worker.stdout.readline().strip())
    (theirs / "source").write_bytes(b"voice")
    with workspace(tmp_path) as ours:
        assert sweep(tmp_path) == 0
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        assert sweep(tmp_path) == 1
        assert not theirs.exists()
        assert ours.exists()
    assert not ours.exists()


def test_a_folder_that_is_just_being_created_is_not_swept(tmp_path):
    (tmp_path / f"{PREFIX}new").mkdir()
    assert sweep(tmp_path) == 0
    os.utime(tmp_path / f"{PREFIX}new", (0, 0))
    assert sweep(tmp_path) == 1
