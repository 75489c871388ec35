"""The handoff store: all of a job's audio or nothing, and nothing for longer than it must."""

import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from cryptography.fernet import Fernet
from live import audio, jobs, store

from config.settings import Settings
from voicemill.config import ClientConfig
from voicemill.errors import ErrorCode, JobError
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.audio import CHUNK, AudioStore

pytestmark = pytest.mark.usefixtures("redis_url")


@pytest.fixture
def recording(tmp_path):
    """A file of three and a bit chunks that no compression makes smaller."""
    path = tmp_path / "audio.flac"
    path.write_bytes(os.urandom(3 * CHUNK + 1234))
    return path


@pytest.fixture(params=["in Redis", "in files", "in memory, as in an object store"])
def anywhere(request, monkeypatch, tmp_path):
    """Run the test on every kind of store."""
    urls = {"in files": f"file://{tmp_path}/store", "in memory, as in an object store": "memory://handoff"}
    if request.param in urls:
        monkeypatch.setenv("HANDOFF_URL", urls[request.param])
        monkeypatch.setenv("HANDOFF_URL_FROM", "1000")


@pytest.fixture(params=["plain", "encrypted"])
def encryption(request, monkeypatch):
    if request.param == "encrypted":
        monkeypatch.setenv("HANDOFF_KEY", Fernet.generate_key().decode())


def read(job_id):
    return b"".join(audio.read(job_id))


@pytest.mark.usefixtures("anywhere", "encryption")
def test_audio_is_stored_read_and_deleted(recording):
    assert audio.put("job", recording) == recording.stat().st_size
    assert audio.exists("job")
    assert read("job") == recording.read_bytes()
    audio.delete("job")
    assert not audio.exists("job")
    with pytest.raises(JobError, match="handoff_expired"):
        read("job")
    audio.delete("job")  # a second time changes nothing


@pytest.mark.usefixtures("anywhere")
def test_audio_that_is_stored_again_replaces_the_first(recording, tmp_path):
    audio.put("job", recording)
    (tmp_path / "second").write_bytes(b"second" * 1000)
    audio.put("job", tmp_path / "second")
    assert read("job") == b"second" * 1000
    if (tmp_path / "store").exists():
        assert len(list((tmp_path / "store").iterdir())) == 1


@pytest.mark.usefixtures("anywhere", "encryption")
def test_nothing_is_left_of_a_deleted_job(recording, tmp_path, redis_url):
    audio.put("job", recording)
    audio.delete("job")
    assert redis.Redis.from_url(redis_url).keys("*") == []
    assert list(tmp_path.glob("store/*")) == []


class Watched:
    """A client of Redis that calls `watch` before each pipeline."""

    def __init__(self, client, watch):
        self.client, self.watch = client, watch

    def __getattr__(self, name):
        return getattr(self.client, name)

    def pipeline(self, **keywords):
        self.watch()
        return self.client.pipeline(**keywords)


def test_a_reader_sees_all_or_nothing(recording):
    """While it is being written, the entry is not there yet."""
    seen = []
    watched = Watched(store.redis, lambda: seen.append(audio.exists("job")))
    AudioStore(SimpleNamespace(redis=watched, config=store.config)).put("job", recording)
    assert len(seen) == 4  # the header with two chunks, two chunks, the name
    assert not any(seen)


def test_two_writers_at_once_leave_one_whole_entry(tmp_path):
    bodies = [bytes([number]) * (2 * CHUNK) for number in range(4)]
    threads = []
    for number, body in enumerate(bodies):
        (tmp_path / str(number)).write_bytes(body)
        threads.append(threading.Thread(target=audio.put, args=("job", tmp_path / str(number))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read("job") in bodies


@pytest.mark.usefixtures("encryption")
def test_no_chunk_is_larger_than_it_may_be_and_every_key_expires(recording, redis_url):
    audio.put("job", recording)
    source = audio.upload(recording.read_bytes())
    client = redis.Redis.from_url(redis_url)
    lists = [key for key in client.keys("*") if client.type(key) == b"list"]
    assert len(lists) == 2
    for key in lists:
        assert max(map(len, client.lrange(key, 0, -1))) <= CHUNK
        assert 86000 < client.ttl(key) <= 86400
    assert b"".join(audio.read_upload(source)) == recording.read_bytes()


def test_an_entry_may_have_its_own_ttl(recording, redis_url, monkeypatch):
    client = redis.Redis.from_url(redis_url)
    audio.put("job", recording, 100)
    assert 90 < client.ttl(keys.audio("job")) <= 100
    monkeypatch.setenv("HANDOFF_TTL", "7200")
    audio.put("job", recording)
    assert 7000 < client.ttl(keys.audio("job")) <= 7200


def test_a_writer_that_fails_leaves_nothing(redis_url):
    class Broken:
        def read(self, size):
            if self.__dict__.setdefault("read_before", False):
                raise OSError("the disk is gone")
            self.read_before = True
            return bytes(size)

    with pytest.raises(OSError, match="the disk is gone"):
        audio.upload(Broken())
    assert redis.Redis.from_url(redis_url).keys("*") == []


def test_a_full_redis_fails_the_write_and_keeps_no_part_of_it(recording, redis_url):
    client = redis.Redis.from_url(redis_url)
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 600_000)
    try:
        with pytest.raises(JobError, match="handoff_full"):
            audio.put("job", recording)
        assert client.keys("*") == []
    finally:
        client.config_set("maxmemory", 0)


def test_an_upload_beyond_the_limit_is_refused(monkeypatch, redis_url):
    monkeypatch.setenv("MAX_SOURCE_BYTES", "1000")
    with pytest.raises(JobError, match="source_too_large"):
        audio.upload(bytes(1001))
    assert redis.Redis.from_url(redis_url).keys("*") == []


def test_an_upload_into_a_full_store_is_refused_before_its_bytes_are_read(monkeypatch):
    audio.upload(bytes(1000))
    monkeypatch.setenv("MAX_HANDOFF_BYTES", "1000")
    with pytest.raises(JobError, match=r"handoff_full: .* MAX_HANDOFF_BYTES is 1000"):
        audio.upload(object())


def test_an_upload_that_could_not_be_sent_is_removed(redis_url):
    with pytest.raises(ZeroDivisionError), audio.uploaded(b"voice"):
        raise ZeroDivisionError
    assert redis.Redis.from_url(redis_url).keys("*") == []
    with audio.uploaded(b"voice") as source:
        pass
    assert b"".join(audio.read_upload(source)) == b"voice"


def spend(job_id, *ends):
    """Upload for a job, which then comes to an end."""
    source = audio.upload(bytes(1000))
    jobs.create(job_id, source, Options())
    for end in ends:
        end(job_id)
    return source


def there(source):
    return bool(store.redis.exists(keys.upload(source.removeprefix("upload:"))))


ENDS = {
    "transcribed": lambda job_id: jobs.finish(job_id, "transcribe", {"transcript": {"text": ""}}),
    "done": lambda job_id: jobs.finish(job_id, "transcribe", {"transcript": {"text": ""}}, following=None),
    "failed": lambda job_id: jobs.fail(job_id, "decode", JobError(ErrorCode.UNDECODABLE, "no")),
    "cancelled": lambda job_id: jobs.cancel(job_id),  # noqa: PLW0108 - of the Redis at the time of the call
}


@pytest.mark.parametrize("end", ENDS)
def test_room_is_made_by_removing_uploads_that_no_job_needs(end, monkeypatch):
    spent, waiting = spend("ended", ENDS[end]), spend("waiting")
    assert there(spent)  # for the player
    assert audio.full() is None

    monkeypatch.setenv("MAX_HANDOFF_BYTES", "2000")
    assert audio.full() is None

    assert (there(spent), there(waiting)) == (False, True)
    assert audio.total_bytes() < 1500


def test_an_upload_whose_job_is_retried_is_kept(monkeypatch):
    source = spend("again", ENDS["failed"], lambda job_id: jobs.restart(job_id, "decode"))
    monkeypatch.setenv("MAX_HANDOFF_BYTES", "1000")
    assert "MAX_HANDOFF_BYTES is 1000" in audio.full()
    assert there(source)


def test_decoding_continues_in_a_store_full_of_uploads_until_audio_has_its_share(tmp_path, monkeypatch):
    (tmp_path / "audio").write_bytes(bytes(1000))
    spend("waiting")
    monkeypatch.setenv("MAX_HANDOFF_BYTES", "1000")
    assert "MAX_HANDOFF_BYTES is 1000" in audio.full()
    assert audio.full(decoding=True) is None

    audio.put("waiting", tmp_path / "audio")
    assert "MAX_HANDOFF_BYTES is 1000" in audio.full(decoding=True)
    audio.delete("waiting")
    assert audio.full(decoding=True) is None


def test_the_limit_is_half_of_the_memory_that_redis_may_use(redis_url):
    client = redis.Redis.from_url(redis_url)
    spend("waiting")
    client.config_set("maxmemory", 2000)
    try:
        assert "Redis may use 2000" in audio.full()
    finally:
        client.config_set("maxmemory", 0)


def test_an_upload_outlives_the_audio_that_is_made_of_it(redis_url, monkeypatch):
    monkeypatch.setenv("HANDOFF_TTL", "100")
    source = audio.upload(b"voice")
    audio.renew(source)
    key = keys.upload(source.removeprefix("upload:"))
    assert 190 < redis.Redis.from_url(redis_url).ttl(key) <= 200
    assert 190 < store.redis.zscore(keys.EXPIRIES, key) - time.time() <= 200
    audio.renew("upload:gone")
    assert store.redis.zcard(keys.EXPIRIES) == 1


def test_long_uploads_go_to_files_and_live_as_long(files):
    source = audio.upload(b"x" * 2000)
    (file,) = files.iterdir()
    assert b"".join(audio.read_upload(source)) == b"x" * 2000
    age(file)
    audio.renew(source)
    assert audio.sweep() == 0
    audio.delete_upload(source)
    assert not file.exists()


def test_an_upload_that_is_too_large_for_files_leaves_none(files, monkeypatch):
    monkeypatch.setenv("MAX_SOURCE_BYTES", "1500")
    with pytest.raises(JobError, match="source_too_large"):
        audio.upload(bytes(2000))
    assert list(files.iterdir()) == []


def test_expired_entries_do_not_count_towards_the_stores_size(recording):
    assert audio.total_bytes() == 0
    audio.put("one", recording)
    audio.put("two", recording)
    size = recording.stat().st_size
    assert 2 * size <= audio.total_bytes() <= 2 * size + 1000
    audio.delete("one")
    assert size <= audio.total_bytes() <= size + 1000
    store.redis.zadd(keys.EXPIRIES, {keys.audio("two"): time.time() - 1})
    assert audio.total_bytes() == 0


def test_a_store_of_many_entries_is_not_counted_for_every_message(recording):
    counts = []

    class Large(AudioStore):
        def total_bytes(self):
            counts.append(1)
            time.sleep(0.2)  # seconds, for 20 times as long of which the count serves
            return 100

    large = Large(store)
    assert [large.known_bytes() for _ in range(50)] == [100] * 50
    large.put("one", recording)
    assert large.known_bytes() >= 100 + recording.stat().st_size  # its own are known without counting
    assert len(counts) == 1


def test_encrypted_audio_is_unreadable_in_redis_and_in_files(tmp_path, monkeypatch, redis_url):
    monkeypatch.setenv("HANDOFF_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("HANDOFF_URL", f"file://{tmp_path}/store")
    monkeypatch.setenv("HANDOFF_URL_FROM", "100000")
    (tmp_path / "small").write_bytes(b"a secret " * 100)
    (tmp_path / "large").write_bytes(b"a secret " * 20000)
    audio.put("small", tmp_path / "small")
    audio.put("large", tmp_path / "large")
    (file,) = (tmp_path / "store").iterdir()
    assert b"a secret" not in file.read_bytes()
    stored = redis.Redis.from_url(redis_url).lrange(keys.audio("small"), 0, -1)
    assert b"a secret" not in b"".join(stored)


def test_keys_can_be_rotated(recording, monkeypatch):
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    monkeypatch.setenv("HANDOFF_KEY", old)
    audio.put("job", recording)
    monkeypatch.setenv("HANDOFF_KEY", f"{new},{old}")
    assert read("job") == recording.read_bytes()
    monkeypatch.setenv("HANDOFF_KEY", new)
    with pytest.raises(JobError, match="another HANDOFF_KEY"):
        read("job")
    monkeypatch.delenv("HANDOFF_KEY")
    with pytest.raises(JobError, match="no HANDOFF_KEY"):
        read("job")
    monkeypatch.setenv("HANDOFF_KEY", "short")
    with pytest.raises(JobError, match="HANDOFF_KEY is not a Fernet key"):
        read("job")


def test_encrypted_chunks_cannot_be_reordered(recording, monkeypatch, redis_url):
    monkeypatch.setenv("HANDOFF_KEY", Fernet.generate_key().decode())
    audio.put("job", recording)
    client, key = redis.Redis.from_url(redis_url), keys.audio("job")
    first, second = client.lrange(key, 1, 2)
    client.lset(key, 1, second)
    client.lset(key, 2, first)
    with pytest.raises(JobError, match="changed places"):
        read("job")


def entry(name):
    """An entry as it lies in Redis: its key, its header, its chunks."""
    key = keys.audio(name)
    head, *chunks = store.redis.lrange(key, 0, -1)
    return key, json.loads(head), chunks


def rewrite(name, header, chunks):
    key = keys.audio(name)
    store.redis.delete(key)
    store.redis.rpush(key, json.dumps(header) if isinstance(header, dict) else header, *chunks)


DAMAGE = {
    "its end is gone": lambda header, chunks, _other: (header, chunks[:-1]),
    "all of it is gone": lambda header, _chunks, _other: (header, []),
    "a chunk comes twice": lambda header, chunks, _other: (header, [*chunks, chunks[-1]]),
    "its header is no JSON": lambda _header, chunks, _other: (b"\xff{", chunks),
    "its header is another's": lambda _header, chunks, _other: (b'{"size": 5}', chunks),
    "its header is a list": lambda _header, chunks, _other: (b"[" * 100_000, chunks),
}
FORGERY = {
    "a chunk is another job's": lambda header, chunks, other: (header, [chunks[0], other[1], *chunks[2:]]),
    "it is not encrypted": lambda header, _chunks, _other: (header | {"sealed": False, "size": 5}, [b"plain"]),
    "a chunk was changed": lambda header, chunks, _other: (header, [chunks[0], b"x" + chunks[1], *chunks[2:]]),
}


@pytest.mark.usefixtures("encryption")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_audio_is_reported_and_never_returned_as_whole(recording, damage):
    audio.put("job", recording)
    _, header, chunks = entry("job")
    rewrite("job", *DAMAGE[damage](header, chunks, ()))

    with pytest.raises(JobError, match="handoff_unreadable"):
        read("job")
    audio.put("job", recording)  # it can be replaced
    assert read("job") == recording.read_bytes()


@pytest.mark.parametrize("forgery", FORGERY)
def test_with_a_key_only_what_was_encrypted_for_this_job_is_read(recording, monkeypatch, forgery):
    monkeypatch.setenv("HANDOFF_KEY", Fernet.generate_key().decode())
    audio.put("job", recording)
    audio.put("other", recording)
    _, header, chunks = entry("job")
    rewrite("job", *FORGERY[forgery](header, chunks, entry("other")[2]))

    with pytest.raises(JobError, match="handoff_unreadable"):
        read("job")


def test_an_entry_of_another_type_is_unreadable(redis_url):
    redis.Redis.from_url(redis_url).set(keys.audio("job"), "x")
    with pytest.raises(JobError, match="handoff_unreadable"):
        read("job")
    audio.delete("job")
    assert not audio.exists("job")


@pytest.mark.usefixtures("encryption")
@pytest.mark.parametrize("left", [2, 100_000, -1, -100_000])
def test_a_truncated_file_is_unreadable(recording, files, left):
    audio.put("job", recording)
    (file,) = files.iterdir()
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(JobError, match="handoff_unreadable"):
        read("job")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDOFF_URL", f"file://{tmp_path}/store")
    monkeypatch.setenv("HANDOFF_URL_FROM", "1000")
    return tmp_path / "store"


def test_a_file_that_is_gone_counts_as_expired(recording, files):
    audio.put("job", recording)
    for file in files.iterdir():
        file.unlink()
    with pytest.raises(JobError, match="handoff_expired"):
        read("job")


def test_a_store_that_cannot_be_used_is_unavailable(recording, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HANDOFF_URL", f"file://{tmp_path}/file/folder")
    monkeypatch.setenv("HANDOFF_URL_FROM", "1000")
    with pytest.raises(JobError, match="handoff_unavailable"):
        audio.put("job", recording)
    monkeypatch.setenv("HANDOFF_URL", "nosuchstore://x")
    with pytest.raises(JobError, match="handoff_unavailable"):
        audio.put("job", recording)


def test_files_without_an_entry_are_swept_after_their_ttl(recording, files):
    assert audio.sweep() == 0
    audio.put("one", recording)
    (old,) = files.iterdir()
    audio.put("two", recording)
    age(old)
    assert audio.sweep() == 1
    assert not old.exists()
    assert len(list(files.iterdir())) == 1


def age(path):
    """Let a file look as if it had outlived HANDOFF_TTL."""
    os.utime(path, (time.time() - 90_000,) * 2)


def test_foreign_files_under_handoff_url_are_never_swept(recording, files):
    audio.put("job", recording)
    (ours,) = files.iterdir()
    others = [files / "notes.txt", files / "customer" / "original.wav", files / "customer" / ours.name]
    (files / "customer").mkdir()
    for path in [ours, *others]:
        path.write_bytes(b"x")
        age(path)

    assert audio.sweep() == 1

    assert all(path.exists() for path in others)


def test_no_job_id_or_header_leads_out_of_handoff_url(recording, files, tmp_path):
    audio.put("../evil", recording)
    assert read("../evil") == recording.read_bytes()
    assert [path.parent for path in tmp_path.rglob("*voicemill-handoff*")] == [files]

    outside, key = tmp_path / "outside.txt", keys.audio("../evil")
    outside.write_bytes(b"\0\0\0\1x")
    header = json.loads(store.redis.lindex(key, 0))
    store.redis.lset(key, 0, json.dumps(header | {"object": "../outside.txt", "size": 1}))
    with pytest.raises(JobError, match="handoff_unreadable"):
        read("../evil")
    audio.delete("../evil")
    assert outside.exists()


def test_short_audio_stays_in_redis(files, tmp_path):
    (tmp_path / "short").write_bytes(b"x" * 999)
    audio.put("job", tmp_path / "short")
    assert not files.exists()
    assert read("job") == b"x" * 999


@pytest.mark.parametrize("name", ["handoff_ttl", "handoff_url_from", "max_source_bytes", "max_handoff_bytes"])
def test_a_backends_default_is_the_workers(name):
    assert getattr(ClientConfig(), name) == Settings.model_fields[name].default


def test_an_empty_file_is_an_entry_too(tmp_path):
    (tmp_path / "empty").touch()
    assert audio.put("job", Path(tmp_path / "empty")) == 0
    assert audio.exists("job")
    assert read("job") == b""
