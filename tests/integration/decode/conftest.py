"""A spoken sentence and a way to decode it, shared by the tests of the decode stage."""

import subprocess
import sys
from pathlib import Path

import pytest

from voicemill.errors import JobError

sys.path.insert(0, str(Path(__file__).parent))  # builders of files and servers that only these tests need

import corpus
from live import audio

from config.settings import Settings
from pipeline.decode import decode as work


@pytest.fixture(scope="session")
def voice(tmp_path_factory):
    """A WAV file of one spoken sentence."""
    return corpus.speak(tmp_path_factory.mktemp("voice") / "voice.wav")


@pytest.fixture
def media(tmp_path):
    """The folder of MEDIA_ROOT."""
    (tmp_path / "media").mkdir()
    return tmp_path / "media"


@pytest.fixture
def decode(tmp_path, media):
    """Decode a source as a worker would: `decode(source, stream=1, max_duration=5)`."""
    count = 0

    def run(source, *, stream=None, **settings):
        nonlocal count
        count += 1
        folder = tmp_path / f"job-{count}"
        folder.mkdir()
        chosen = Settings(**{"media_root": str(media)} | settings)
        return work(str(source), folder, chosen, stream=stream, uploads=audio)

    return run


@pytest.fixture
def code(decode):
    """Return the code with which a source fails, or "decoded"."""

    def run(source, **settings):
        try:
            decode(source, **settings)
        except JobError as error:
            return error.code
        return "decoded"

    return run


@pytest.fixture
def ffmpeg():
    """Run FFmpeg."""

    def run(*arguments):
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)

    return run
