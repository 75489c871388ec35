"""The handoff store: all of a job's audio or nothing, and nothing for longer than it must."""

import os
import threading
import time
from pathlib import Path

import pytest
import redis
from cryptography.fernet import Fernet

from config.settings import Settings
from pipeline import connection, handoff
from pipeline.errors import JobError

pytestmark = pytest.mark.usefixtures("redis_url")


@pytest.fixture
def audio(tmp_path):
    """A file of three and a bit chunks that no compression makes smaller."""
    path = tmp_path / "audio.flac"
    path.write_bytes(os.urandom(3 * handoff.CHUNK + 1234))
    return path


@pytest.fixture(params=["in Redis", "in files", "in memory, as in an object store"])
def anywhere(request, monkeypatch, tmp_path):
    """Both kinds of store, each with and without a seal in the tests that use it."""
    urls = {"in files": f"file://{tmp_path}/store", "in memory, as in an object store": "memory://handoff"}
    if request.param in urls:
        monkeypatch.setenv("HANDOFF_URL", urls[request.param])
        monkeypatch.setenv("HANDOFF_URL_FROM", "1000")


@pytest.fixture(params=["plain", "sealed"])
def seal(request, monkeypatch):
    if request.param == "sealed":
        monkeypatch.setenv("HANDOFF_KEY", Fernet.generate_key().decode())


def read(job_id):
    return b"".join(handoff.read(job_id))


@pytest.mark.usefixtures("anywhere", "seal")
def test_what_was_put_is_read_and_then_gone(audio):
    assert handoff.put("job", audio) == audio.stat().st_size
    assert handoff.exists("job")
    assert read("job") == audio.read_bytes()
    handoff.delete("job")
    assert not handoff.exists("job")
    with pytest.raises(JobError, match="handoff_expired"):
        read("job")
    handoff.delete("job")  # a second time changes nothing


@pytest.mark.usefixtures("anywhere")
def test_put_twice_it_is_there_once(audio, tmp_path):
    handoff.put("job", audio)
    (tmp_path / "second").write_bytes(b"second" * 1000)
    handoff.put("job", tmp_path / "second")
    assert read("job") == b"second" * 1000
    if (tmp_path / "store").exists():
        assert len(list((tmp_path / "store").iterdir())) == 1


@pytest.mark.usefixtures("anywhere", "seal")
def test_nothing_is_left_of_a_deleted_job(audio, tmp_path, redis_url):
    handoff.put("job", audio)
    handoff.delete("job")
    assert redis.Redis.from_url(redis_url).keys("*") == []
    assert list(tmp_path.glob("store/*")) == []


def test_a_reader_sees_all_or_nothing(audio, monkeypatch):
    """While a writer is in the middle, the entry is not there yet."""
    real, seen = connection.client().pipeline, []

    def pipeline(*arguments, **keywords):
        seen.append(handoff.exists("job"))
        return real(*arguments, **keywords)

    monkeypatch.setattr(connection.client(), "pipeline", pipeline)
    handoff.put("job", audio)
    assert len(seen) == 6  # the header, four chunks, the name
    assert not any(seen)


def test_two_writers_at_once_leave_one_whole_entry(tmp_path):
    bodies = [bytes([number]) * (2 * handoff.CHUNK) for number in range(4)]
    threads = []
    for number, body in enumerate(bodies):
        (tmp_path / str(number)).write_bytes(body)
        threads.append(threading.Thread(target=handoff.put, args=("job", tmp_path / str(number))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read("job") in bodies


@pytest.mark.usefixtures("seal")
def test_no_chunk_is_larger_than_it_may_be_and_every_key_expires(audio, redis_url):
    handoff.put("job", audio)
    source = handoff.upload(audio.read_bytes())
    client = redis.Redis.from_url(redis_url)
    lists = [key for key in client.keys("*") if client.type(key) == b"list"]
    assert len(lists) == 2
    for key in lists:
        assert max(map(len, client.lrange(key, 0, -1))) <= handoff.CHUNK
        assert 86000 < client.ttl(key) <= 86400
    assert b"".join(handoff.read_upload(source)) == audio.read_bytes()


def test_a_life_of_its_own_can_be_given(audio, redis_url, monkeypatch):
    client = redis.Redis.from_url(redis_url)
    handoff.put("job", audio, 100)
    assert 90 < client.ttl(handoff._key("audio", "job")) <= 100
    monkeypatch.setenv("HANDOFF_TTL", "7200")
    handoff.put("job", audio)
    assert 7000 < client.ttl(handoff._key("audio", "job")) <= 7200


def test_a_writer_that_fails_leaves_nothing(redis_url):
    class Broken:
        def read(self, size):
            if self.__dict__.setdefault("read_before", False):
                raise OSError("the disk is gone")
            self.read_before = True
            return bytes(size)

    with pytest.raises(OSError, match="the disk is gone"):
        handoff.upload(Broken())
    assert redis.Redis.from_url(redis_url).keys("*") == []


def test_a_full_redis_is_told_and_what_was_begun_is_taken_back(audio, redis_url):
    client = redis.Redis.from_url(redis_url)
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 600_000)
    try:
        with pytest.raises(JobError, match="handoff_full"):
            handoff.put("job", audio)
        assert client.keys("*") == []
    finally:
        client.config_set("maxmemory", 0)


def test_an_upload_beyond_the_limit_is_refused(monkeypatch, redis_url):
    monkeypatch.setenv("MAX_SOURCE_BYTES", "1000")
    with pytest.raises(JobError, match="source_too_large"):
        handoff.upload(bytes(1001))
    assert redis.Redis.from_url(redis_url).keys("*") == []


def test_the_stores_size_is_known_and_forgets_what_expired(audio):
    assert handoff.total_bytes() == 0
    handoff.put("one", audio)
    handoff.put("two", audio)
    size = audio.stat().st_size
    assert 2 * size <= handoff.total_bytes() <= 2 * size + 1000
    handoff.delete("one")
    assert size <= handoff.total_bytes() <= size + 1000
    connection.client().zadd(handoff.EXPIRIES_KEY, {handoff._key("audio", "two"): time.time() - 1})
    assert handoff.total_bytes() == 0


def test_a_store_of_many_entries_is_not_counted_for_every_message(audio, monkeypatch):
    counts = []
    monkeypatch.setattr(handoff, "_count", handoff._Count())
    monkeypatch.setattr(handoff, "SPARING", 1e9)
    monkeypatch.setattr(handoff, "total_bytes", lambda: counts.append(1) or time.sleep(0.001) or 100)

    assert [handoff.known_bytes() for _ in range(50)] == [100] * 50
    handoff.put("one", audio)
    assert handoff.known_bytes() >= 100 + audio.stat().st_size  # its own are known without counting
    assert len(counts) == 1


def test_sealed_audio_cannot_be_read_where_it_lies(tmp_path, monkeypatch, redis_url):
    monkeypatch.setenv("HANDOFF_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("HANDOFF_URL", f"file://{tmp_path}/store")
    monkeypatch.setenv("HANDOFF_URL_FROM", "100000")
    (tmp_path / "small").write_bytes(b"a secret " * 100)
    (tmp_path / "large").write_bytes(b"a secret " * 20000)
    handoff.put("small", tmp_path / "small")
    handoff.put("large", tmp_path / "large")
    (file,) = (tmp_path / "store").iterdir()
    assert b"a secret" not in file.read_bytes()
    stored = redis.Redis.from_url(redis_url).lrange(handoff._key("audio", "small"), 0, -1)
    assert b"a secret" not in b"".join(stored)


def test_keys_can_be_changed(audio, monkeypatch):
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    monkeypatch.setenv("HANDOFF_KEY", old)
    handoff.put("job", audio)
    monkeypatch.setenv("HANDOFF_KEY", f"{new},{old}")
    assert read("job") == audio.read_bytes()
    monkeypatch.setenv("HANDOFF_KEY", new)
    with pytest.raises(JobError, match="another HANDOFF_KEY"):
        read("job")
    monkeypatch.delenv("HANDOFF_KEY")
    with pytest.raises(JobError, match="no HANDOFF_KEY"):
        read("job")
    monkeypatch.setenv("HANDOFF_KEY", "short")
    with pytest.raises(JobError, match="no Fernet key"):
        read("job")


def test_sealed_chunks_cannot_change_places(audio, monkeypatch, redis_url):
    monkeypatch.setenv("HANDOFF_KEY", Fernet.generate_key().decode())
    handoff.put("job", audio)
    client, key = redis.Redis.from_url(redis_url), handoff._key("audio", "job")
    first, second = client.lrange(key, 1, 2)
    client.lset(key, 1, second)
    client.lset(key, 2, first)
    with pytest.raises(JobError, match="changed places"):
        read("job")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDOFF_URL", f"file://{tmp_path}/store")
    monkeypatch.setenv("HANDOFF_URL_FROM", "1000")
    return tmp_path / "store"


def test_a_file_that_is_gone_counts_as_expired(audio, files):
    handoff.put("job", audio)
    for file in files.iterdir():
        file.unlink()
    with pytest.raises(JobError, match="handoff_expired"):
        read("job")


def test_a_store_that_cannot_be_used_is_told(audio, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HANDOFF_URL", f"file://{tmp_path}/file/folder")
    monkeypatch.setenv("HANDOFF_URL_FROM", "1000")
    with pytest.raises(JobError, match="handoff_unavailable"):
        handoff.put("job", audio)
    monkeypatch.setenv("HANDOFF_URL", "nosuchstore://x")
    with pytest.raises(JobError, match="handoff_unavailable"):
        handoff.put("job", audio)


def test_orphans_expire(audio, files):
    assert handoff.sweep() == 0
    handoff.put("one", audio)
    handoff.put("two", audio)
    old = next(path for path in files.iterdir() if path.name.startswith("one"))
    os.utime(old, (time.time() - 90_000,) * 2)
    assert handoff.sweep() == 1
    assert [path.name[:3] for path in files.iterdir()] == ["two"]


def test_short_audio_stays_in_redis(files, tmp_path):
    (tmp_path / "short").write_bytes(b"x" * 999)
    handoff.put("job", tmp_path / "short")
    assert not files.exists()
    assert read("job") == b"x" * 999


def test_the_defaults_are_those_of_the_settings():
    fields = Settings.model_fields
    for name in ("HANDOFF_TTL", "HANDOFF_URL_FROM", "MAX_SOURCE_BYTES"):
        assert getattr(handoff, name) == fields[name.lower()].default


def test_an_empty_file_is_an_entry_too(tmp_path):
    (tmp_path / "empty").touch()
    assert handoff.put("job", Path(tmp_path / "empty")) == 0
    assert handoff.exists("job")
    assert read("job") == b""
