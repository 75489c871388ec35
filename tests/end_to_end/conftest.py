"""The whole pipeline as an operator runs it: every line of the Procfile, a real Redis, real models, real audio."""

import os
import re
import subprocess
import threading

import browsers
import live
import pytest
from hearing import GERMAN, SENTENCE
from tables import LINES

from cli.embedded import valkey
from cli.supervisor import Supervisor, procfile
from config.environment import STATE

CLONE = STATE.parent
SPEECH = {"en": ("en-us", SENTENCE), "de": ("de", GERMAN)}


def pytest_ignore_collect(collection_path, config):
    """Skip the dashboard's tests without a browser, and say so at the end; in CI they fail instead."""
    if collection_path.name != "test_dashboard.py" or os.environ.get("CI") or browsers.installed():
        return None
    missing = f"The dashboard's tests (test_dashboard.py) did not run: {browsers.MISSING}."
    config.stash[LINES]["left out"] = [missing]
    return True


class Stages:
    """The running worker groups, with what they logged."""

    def __init__(self, supervisor, lines):
        self.supervisor = supervisor
        self.lines = lines
        self.more = threading.Condition()

    def show(self, name, line):
        with self.more:
            self.lines.append(f"{name} | {line}")
            self.more.notify_all()

    def await_line(self, pattern, count=1, timeout=60):
        """Wait until `count` lines match, and return them."""
        with self.more:
            found = self.more.wait_for(lambda: len(self.matching(pattern)) >= count, timeout)
        assert found, f"no {count} lines {pattern!r} within {timeout} s in:\n" + "\n".join(self.lines[-60:])
        return self.matching(pattern)

    def matching(self, pattern):
        return [line for line in self.lines if re.search(pattern, line)]


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """A MEDIA_ROOT with messages as phones send them, and with what else arrives."""
    folder = tmp_path_factory.mktemp("media")
    for name, (voice, text) in SPEECH.items():
        wav = folder / f"{name}.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", "140", "-w", wav, text], check=True)
        ffmpeg("-i", wav, "-c:a", "libopus", "-b:a", "24k", folder / f"{name}.ogg")
    ffmpeg("-stream_loop", "5", "-i", folder / "en.wav", "-c:a", "libopus", folder / "long.ogg")
    ffmpeg("-f", "lavfi", "-i", "testsrc=duration=1:size=64x64", "-an", folder / "mute.mp4")
    (folder / "cut.ogg").write_bytes((folder / "en.ogg").read_bytes()[:9000])
    (folder / "letter.ogg").write_text("This is a letter and not a recording. " * 50)
    (folder / "empty.ogg").touch()
    (folder / "folder.ogg").mkdir()
    return folder


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="session")
def stages_redis(tmp_path_factory):
    with valkey(tmp_path_factory.mktemp("stages-redis"), durable=False) as url:
        yield url


@pytest.fixture(scope="session")
def stages(stages_redis, media):
    """All stages, ready; the model knows more than one language."""
    variables = {
        "REDIS_URL": stages_redis,
        "MEDIA_ROOT": str(media),
        "WHISPER_MODEL": "bundled:base",
        "WHISPER_DEVICE": "cpu",
        "WHISPER_CPU_REPLICAS": "1",
        "LOG_FORMAT": "json",
        "GEMINI_API_KEY": "",
        "GOOGLE_API_KEY": "",
        "SHUTDOWN_TIMEOUT": "10",
        "WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "WEBHOOK_ALLOW_HTTP": "true",
        "WEBHOOK_ALLOW_PRIVATE": "true",
    }
    running = Stages(None, [])
    running.supervisor = Supervisor(procfile(), dict(os.environ) | variables, running.show, shutdown_timeout=10)
    running.supervisor.start()
    try:
        running.await_line("Stage ready", count=4)
        yield running
    finally:
        running.supervisor.stop()


@pytest.fixture
def backend(stages, stages_redis, monkeypatch):
    """This process as a backend that talks to the running stages."""
    monkeypatch.setenv("REDIS_URL", stages_redis)
    yield stages
    live.close()
