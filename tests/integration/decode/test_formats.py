"""Every format of voice messages is decoded, whatever its name."""

from concurrent.futures import ThreadPoolExecutor

import corpus
import pytest

from config.settings import Settings
from pipeline.decode import decode as work


@pytest.fixture(scope="module")
def decoded(voice, tmp_path_factory):
    """Return what became of the voice in every format of the corpus, by name."""
    media = tmp_path_factory.mktemp("media")

    def one(name):
        corpus.encode(voice, media, name)
        return name, work(name, tmp_path_factory.mktemp("job"), Settings(media_root=str(media)))

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(one, corpus.NAMES))


@pytest.mark.parametrize("name", corpus.NAMES)
def test_the_whole_message_is_decoded(decoded, name):
    # Encoders pad to whole frames; the AMR samples end with empty frames.
    assert decoded[name].duration == pytest.approx(6.72, abs=0.25 if ".amr" in name else 0.1)


@pytest.mark.parametrize("name", corpus.NAMES)
def test_the_loudness_of_the_voice_is_kept(decoded, name):
    audio = decoded[name].audio
    # FFmpeg makes stereo of mono at -3 dB, and of mono in surround little more than a third.
    assert audio["rms_dbfs"] == pytest.approx(-20.4, abs=12 if audio["channels"] > 2 else 3.5)
    assert not audio["clipped"]
    assert not audio["silent"]


@pytest.mark.parametrize("name", [name for name in corpus.NAMES if ".amr" not in name])
def test_a_good_file_has_no_warnings(decoded, name):
    assert decoded[name].warnings == []


def test_the_record_describes_the_source(decoded):
    audio = decoded["opus-64k-stereo.opus"].audio
    assert (audio["codec"], audio["container"], audio["channels"], audio["sample_rate"]) == ("opus", "ogg", 2, 48000)
    assert audio["channel_used"] is None
    assert len(audio["sha256"]) == 64


def test_a_wrong_or_missing_extension_does_not_matter(decoded):
    assert decoded["misnamed-opus.mp3"].audio["container"] == "ogg"
    assert decoded["misnamed-m4a.ogg"].audio["codec"] == "aac"
    assert decoded["no-extension"].audio["codec"] == "opus"
