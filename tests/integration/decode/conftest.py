"""One voice, and one way to decode it, for all of the room's tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from voicemill.errors import JobError

sys.path.insert(0, str(Path(__file__).parent))  # the room's own builders of files and servers

import corpus

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
        return work(str(source), folder, Settings(**{"media_root": str(media)} | settings), stream=stream)

    return run


@pytest.fixture
def code(decode):
    """Return the code that a source ends in; "decoded" where it does not fail."""

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
