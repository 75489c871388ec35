"""Sources that are neither files of the worker nor URLs of the web: uploads, data: URLs, object stores."""

import base64
import io
import threading
import uuid

import pytest
from live import audio

from pipeline.decode.sources import inline


def test_a_small_message_can_be_a_data_url(decode, voice, media, ffmpeg):
    ffmpeg("-i", voice, "-c:a", "libopus", "-b:a", "16k", media / "v.ogg")
    encoded = base64.b64encode((media / "v.ogg").read_bytes()).decode()
    assert decode(f"data:audio/ogg;base64,{encoded}").duration == pytest.approx(6.72, abs=0.05)
    assert decode(f"data:;base64,{encoded.rstrip('=')}").audio["codec"] == "opus"


@pytest.mark.parametrize("size", [98, 99, 100])  # bytes: with two, one and no padding characters
@pytest.mark.parametrize("newline", ["\n", "\r\n", "%0A", " "])
def test_base64_may_be_broken_into_lines(tmp_path, size, newline):
    encoded = base64.encodebytes(bytes(range(size))).decode()
    for written in (encoded, encoded.replace("=", "")):
        with inline.fetch("data:;base64," + written.replace("\n", newline), tmp_path, limit=1000) as file:
            assert file.read() == bytes(range(size))


def test_a_file_may_be_given_as_a_path_or_a_url(decode, voice, media):
    (media / "my voice.wav").write_bytes(voice.read_bytes())
    assert decode(f"file://{media}/my%20voice.wav").duration > 6
    assert decode(f"{media}/my voice.wav").duration > 6
    assert decode("my voice.wav").duration > 6


def test_paths_are_refused_without_a_media_root(code, voice):
    assert code(voice, media_root=None) == "source_forbidden"


@pytest.mark.usefixtures("redis_url")
def test_an_upload_is_decoded(decode, code, voice):
    assert decode(audio.upload(voice.read_bytes())).duration == pytest.approx(6.72, abs=0.01)
    assert decode(audio.upload(io.BytesIO(voice.read_bytes()))).duration > 6
    assert code(audio.upload(b"")) == "empty_source"
    assert code(f"upload:{uuid.uuid4().hex}") == "source_not_found"
    assert code("upload:") == "source_not_found"


@pytest.fixture
def stored(voice):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe({"/inbox/voice.wav": voice.read_bytes(), "/inbox/empty": b"", "/other/voice.wav": voice.read_bytes()})
    yield store
    store.rm("/", recursive=True)


@pytest.mark.usefixtures("stored")
def test_an_object_under_an_allowed_prefix_is_decoded(decode):
    assert decode("memory://inbox/voice.wav", source_remotes="s3://x/, memory://inbox").duration > 6


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("memory://inbox/nobody.wav", "source_not_found"),
        ("memory://inbox/empty", "empty_source"),
        ("memory://other/voice.wav", "source_forbidden"),
        ("memory://inbox-2/voice.wav", "source_forbidden"),
        ("memory://inbox/../other/voice.wav", "source_forbidden"),
        ("memory://inbox/", "source_forbidden"),
        ("simplecache::memory://inbox/voice.wav", "source_forbidden"),
        ("MEMORY://inbox/voice.wav", "source_forbidden"),
    ],
)
def test_every_other_object_fails_with_its_code(code, address, expected):
    assert code(address, source_remotes="memory://inbox/") == expected


@pytest.mark.usefixtures("stored")
def test_an_object_that_is_too_large_is_not_kept(code):
    assert (
        code("memory://inbox/voice.wav", source_remotes="memory://inbox/", max_source_bytes=1000) == "source_too_large"
    )


@pytest.fixture
def interrupted():
    """Register a store `interrupted://` whose files yield one piece of data and then call `then`."""
    import fsspec

    def register(then):
        class File(io.BytesIO):
            def read(self, _size):
                return super().read(1000) if self.tell() == 0 else then()

        class Store(fsspec.AbstractFileSystem):
            protocol = "interrupted"

            def open(self, *_, **__):
                return File(bytes(5000))

        fsspec.register_implementation("interrupted", Store, clobber=True)

    return register


FAILURES = {
    TimeoutError: "source_unavailable",
    ConnectionResetError: "source_unavailable",
    FileNotFoundError: "source_not_found",
    PermissionError: "source_forbidden",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_store_is_not_taken_for_a_full_disk(code, interrupted, failure):
    def fail():
        raise failure

    interrupted(fail)
    assert code("interrupted://inbox/voice.wav", source_remotes="interrupted://inbox/") == FAILURES[failure]


def test_a_hanging_store_does_not_block_a_worker_beyond_the_time_limit(code, interrupted):
    answer = threading.Event()
    interrupted(lambda: answer.wait(60))
    found = code("interrupted://inbox/voice.wav", source_remotes="interrupted://inbox/", fetch_timeout=0.2)
    answer.set()
    assert found == "source_timeout"


def test_a_store_whose_package_is_missing_is_unsupported(code):
    assert code("nosuchstore://inbox/voice.wav", source_remotes="nosuchstore://inbox/") == "source_unsupported"


def test_decoding_can_be_skipped_by_the_fingerprint(voice, tmp_path):
    from config.settings import Settings
    from pipeline.decode import decode

    class Known(Exception):
        pass

    seen = []

    def known(fingerprint):
        seen.append(fingerprint)
        raise Known

    settings = Settings(media_root=str(voice.parent))
    for _ in range(2):
        with pytest.raises(Known):
            decode(voice.name, tmp_path, settings, on_fetched=known)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 64
