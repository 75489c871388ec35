"""The door before a real Redis: who is let in, how much, and what jobs look like from outside."""

import http.client
import json
import queue
import select
import tempfile
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from door import ENTRY, KEY, PATIENCE, Door, served
from live import audio, jobs, queues, store

from config.settings import Settings
from voicemill.errors import ErrorCode, JobError
from voicemill.options import Options
from voicemill.store import keys
from web import access, api, intake, keys, limits, records
from web.app import create_app

SMALL = b"OggS" * 100


def test_without_one_of_our_keys_nothing_is_told(door):
    opened = door()

    for path in ("/v1/models", "/jobs/x", "/jobs/x/events", "/status", "/dead"):
        for key in (None, "", "vm_wrong", "a key with blanks"):
            refused = opened.ask(path, key=key)
            assert (refused.status, refused.code) == (401, "invalid_api_key")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert opened.ask("/v1/models").status == 200
    assert opened.ask("/healthz", key=None).status == 200


def test_a_cookie_is_a_key_too_but_not_on_the_way_from_another_site(door):
    opened, cookie = door(), {"Cookie": f"voicemill_key={KEY}"}
    jobs.create("kept", "voice.ogg", Options())

    assert opened.ask("/jobs/kept", key=None, **cookie).status == 200
    for sign in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert opened.ask("/jobs/kept", method="DELETE", key=None, **cookie, **sign).status == 401
    assert jobs.get("kept").status == "queued"
    assert opened.ask("/jobs/kept", method="DELETE", key=None, Origin=opened.url, **cookie).status == 204


def test_without_keys_this_machine_may_come_in_and_no_page_of_another_site(door):
    opened = door(api_keys=None)
    jobs.create("kept", "voice.ogg", Options())

    assert opened.ask("/jobs/kept", key=None).status == 200
    assert opened.ask("/jobs/kept", key=None, Host="rebound.example").code == "forbidden"
    assert opened.ask("/jobs/kept", key=None, method="DELETE", Origin="https://evil.example").code == "forbidden"


def test_pages_of_other_origins_may_read_only_where_they_are_named(door):
    origin = {"Origin": "https://app.example.com"}

    assert "access-control-allow-origin" not in door().ask("/v1/models", **origin).headers
    named = door(api_cors_origins="https://app.example.com")
    assert named.ask("/v1/models", **origin).headers["access-control-allow-origin"] == origin["Origin"]
    assert "access-control-allow-origin" not in named.ask("/v1/models", Origin="https://evil.example").headers


def test_a_key_has_so_many_requests_a_minute_over_all_doors(door):
    other, entry = keys.generate("other")
    settings = {"api_requests_per_minute": 5, "api_keys": f"{keys.generate('x')[1]} {entry}"}
    doors = [door(**settings), door(**settings)]

    answers = [doors[number % 2].ask("/v1/models", key=other) for number in range(8)]

    assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
    assert answers[-1].code == "rate_limit_exceeded"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= limits.MINUTE + 1
    store.redis.flushdb()
    assert doors[0].ask("/v1/models", key=other).status == 429  # who asks too often costs Redis nothing


def test_a_body_that_is_too_large_is_refused_by_what_it_says_and_by_what_it_has(door):
    opened = door(api_max_bytes=200_000)
    large = b"\0" * 400_000

    assert opened.upload("/jobs", large).code == "source_too_large"
    assert opened.upload("/jobs", large * 40).code == "source_too_large"  # more than the sockets between hold
    unasked = {"key": "wrong", "body": large * 40, "Content-Type": "multipart/form-data; boundary=x"}
    assert door().ask("/jobs", **unasked).status == 401  # whatever the reason, who still sends is told it
    assert opened.ask("/jobs", body=b" " * (limits.SMALL + 1), **{"Content-Type": "application/json"}).status == 413
    assert opened.ask("/jobs", body=b"{}", **{"Content-Length": "0" * 5000 + "2"}).status == 413
    connection_ = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=PATIENCE)
    head = {"Authorization": f"Bearer {KEY}", "Content-Type": "multipart/form-data; boundary=x"}
    frame = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.ogg"\r\n\r\n'
    connection_.request("POST", "/jobs", iter([frame, large, b"\r\n--x--\r\n"]), head, encode_chunked=True)
    assert connection_.getresponse().status == 413
    connection_.close()
    assert audio.total_bytes() == 0
    assert queues.depths()["decode"].waiting == 0


def test_only_what_takes_messages_takes_much_and_nothing_much_is_taken_without_a_key(door):
    opened = door()
    head = {"Content-Type": "multipart/form-data; boundary=x"}
    pieces = [b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\n', b"a" * (limits.TINY + 1), b"\r\n--x--\r\n"]

    for path in ("/page/sign-in", "/page/preferences", "/page/sign-out", "/jobs/x/cancel"):
        said = opened.ask(path, method="POST", key=None, body=b"".join(pieces), **head)
        assert (said.status, said.code) == (413, "source_too_large"), path
    for path in ("/page/sign-in", "/page/preferences"):
        client = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=PATIENCE)
        client.request("POST", path, iter(pieces), head, encode_chunked=True)
        assert client.getresponse().status == 413, path
        client.close()
    assert opened.upload("/jobs", b"\0" * (limits.TINY + 1)).status == 202


def test_who_sends_a_body_drop_by_drop_does_not_hold_a_place_for_ever(door, monkeypatch):
    monkeypatch.setattr(limits, "SILENCE", 0.5)
    monkeypatch.setattr(limits, "SLOWEST", 100)
    stopped = threading.Event()

    def drops():
        while not stopped.wait(0.05):  # never silent for long, but 20 bytes a second
            yield b"k"

    client = http.client.HTTPConnection("127.0.0.1", door().port, timeout=PATIENCE)
    client.connect()
    head = {"Content-Type": "application/x-www-form-urlencoded"}
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.request, "POST", "/page/sign-in", drops(), head, encode_chunked=True)
        readable, _, _ = select.select([client.sock], [], [], 20)
        stopped.set()
        sending.result()

    assert readable, "the door still waits for more"
    assert client.getresponse().status == 408
    client.close()


def test_a_message_by_its_address_is_queued_with_its_options(door):
    sent = door().ask("/jobs", body={"source": "https://a.example/v.ogg?s=1", "options": {"language": "ko"}})

    assert sent.status == 202
    assert sent.headers["Location"] == f"/jobs/{sent.json['id']}"
    assert jobs.get(sent.json["id"]).options["language"] == "ko"
    assert queues.depths()["decode"].waiting == 1


def test_an_uploaded_message_reaches_the_store_byte_by_byte(door):
    data = bytes(range(256)) * 9000
    sent = door().upload("/jobs", data, options='{"enrich": false}')

    assert b"".join(audio.read_upload(jobs.raw_source(sent.json["id"]))) == data
    assert jobs.get(sent.json["id"]).options["enrich"] is False


WRONG = [
    (b"{", "invalid_request"),
    (b"[" * 100_000, "invalid_request"),
    (b'{"source": 1}', "invalid_request"),
    (b'{"source": "a", "options": []}', "invalid_request"),
    (b'{"source": "  "}', "invalid_options"),
    (b'{"source": "\\ud800"}', "invalid_request"),
    (b'{"source": "a", "options": {"nix": 1}}', "invalid_options"),
    (b'{"source": "a", "options": {"language": "xx"}}', "invalid_options"),
    (b'{"source": "a", "options": {"callback_url": "ftp://a"}}', "invalid_options"),
    (b'{"source": "a", "options": {"metadata": NaN}}', "invalid_options"),
]


def test_a_wrong_request_is_told_what_is_wrong_and_queues_nothing(door):
    opened = door()

    for body, code in WRONG:
        refused = opened.ask("/jobs", body=body, **{"Content-Type": "application/json"})
        assert (refused.status, refused.code) == (400, code), body[:60]
    assert queues.depths()["decode"].waiting == 0


def test_a_system_that_is_full_says_when_to_come_again(door, monkeypatch):
    monkeypatch.setenv("MAX_QUEUED", "1")
    opened = door()
    assert opened.ask("/jobs", body={"source": "a"}).status == 202

    for full in (
        opened.ask("/jobs", body={"source": "a"}),
        opened.upload("/v1/audio/transcriptions", SMALL, model="whisper-1"),
    ):
        assert (full.status, full.code) == (503, "system_full")
        assert int(full.headers["Retry-After"]) >= 1
    assert audio.total_bytes() == 0  # nothing is left of what was not sent
    client = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=PATIENCE)
    client.putrequest("POST", "/jobs")
    for name, value in {"Authorization": f"Bearer {KEY}", "Content-Length": "2000000"}.items():
        client.putheader(name, value)
    client.putheader("Content-Type", "multipart/form-data; boundary=x")
    client.endheaders()
    assert client.getresponse().status == 503  # before much is sent for nothing
    client.close()


def test_what_an_openai_form_asks_for_is_asked_of_the_stages(door):
    form = {"language": "EN", "prompt": "Voicemill", "enrich": "true", "response_format": "verbose_json"}
    form |= {"timestamp_granularities[]": "word"}
    late = door(api_wait_timeout=0.2).upload("/v1/audio/translations", SMALL, model="whisper-1", **form)

    options = jobs.get(late.headers["X-Job-Id"]).options
    assert {name: options[name] for name in ("task", "language", "prompt", "enrich", "word_timestamps")} == {
        "task": "translate",
        "language": "en",
        "prompt": "Voicemill",
        "enrich": True,
        "word_timestamps": True,
    }


def test_a_store_that_is_full_says_when_to_come_again(door, monkeypatch):
    opened = door()
    assert opened.upload("/jobs", SMALL).status == 202
    monkeypatch.setenv("MAX_HANDOFF_BYTES", "100")

    full = opened.upload("/jobs", SMALL)

    assert (full.status, full.code) == (503, "handoff_full")
    assert int(full.headers["Retry-After"]) >= 1
    assert "MAX_HANDOFF_BYTES" in full.json["error"]["message"]


@pytest.mark.parametrize("path", ["/jobs", "/v1/audio/transcriptions"])
def test_a_disk_that_has_no_room_for_an_upload_is_said_to_be_full(door, monkeypatch, tmp_path, path):
    opened, told = door(), []
    monkeypatch.setattr(intake, "log", SimpleNamespace(warning=lambda event, **fields: told.append((event, fields))))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))

    full = opened.upload(path, b"x" * 2 * intake.MUCH, model="whisper-1")

    assert (full.status, full.code) == (503, "disk_full")
    assert int(full.headers["Retry-After"]) >= 1
    ((event, fields),) = told
    assert "TMPDIR" in event
    assert fields["folder"] == str(tmp_path / "none")


def test_a_job_is_read_as_a_record_and_as_text_and_subtitles(door, engine):
    opened = door()
    sent = opened.ask("/jobs", body={"source": "a"}).json["id"]
    assert opened.ask(f"/jobs/{sent}?format=srt").code == "no_transcript"
    engine()

    assert opened.ask(f"/jobs/{sent}").json["status"] == "done"
    for form, kind in (("txt", "text/plain"), ("srt", "text/plain"), ("vtt", "text/vtt")):
        told = opened.ask(f"/jobs/{sent}?format={form}")
        assert told.status == 200
        assert b"Thursday" in told.body
        assert told.headers.get_content_type() == kind
    assert opened.ask(f"/jobs/{sent}?format=doc").status == 400
    assert opened.ask("/jobs/nix").code == "unknown_job"


def test_events_are_told_live_and_go_on_behind_the_last_one_that_was_heard(door, engine):
    opened = door()
    sent = opened.ask("/jobs", body={"source": "a"}).json["id"]
    request = urllib.request.Request(f"{opened.url}/jobs/{sent}/events", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as stream:
        assert stream.headers.get_content_type() == "text/event-stream"
        first = heard(stream)
        engine()
        rest = list(iter(lambda: heard(stream), None))

    assert first[1]["status"] == "queued"
    assert [event["status"] for _, event in rest][-1] == "done"
    again = opened.ask(f"/jobs/{sent}/events", **{"Last-Event-ID": first[0]})
    assert again.body.decode().count("data: ") == len(rest)
    assert opened.ask(f"/jobs/{sent}/events", **{"Last-Event-ID": rest[-1][0]}).status == 204
    assert opened.ask("/jobs/nix/events").code == "unknown_job"


def test_a_stream_of_events_on_which_nothing_happens_says_that_it_lives(door, monkeypatch):
    monkeypatch.setattr(api, "KEEP_ALIVE", 0.0)
    monkeypatch.setattr(records, "BLOCK", 20)
    opened = door()
    sent = opened.ask("/jobs", body={"source": "a"}).json["id"]
    request = urllib.request.Request(f"{opened.url}/jobs/{sent}/events", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as stream:
        assert b": still here\n" in iter(stream.readline, b"")


def test_a_stream_of_events_goes_on_where_its_connection_to_redis_is_lost(door, engine):
    opened, admin = door(), store.redis
    sent = opened.ask("/jobs", body={"source": "a"}).json["id"]
    request = urllib.request.Request(f"{opened.url}/jobs/{sent}/events", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as stream:
        assert heard(stream)[1]["status"] == "queued"
        following = []
        while not following:
            following = [found["id"] for found in admin.client_list() if found["cmd"] == "xread"]
        admin.client_kill_filter(_id=following[0])
        engine()
        assert [event["status"] for _, event in iter(lambda: heard(stream), None)][-1] == "done"


def heard(stream):
    """The next event with its id; None: the stream is over."""
    event_id = None
    for line in stream:
        name, _, value = line.decode().strip().partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            return event_id, json.loads(value)
    return None


def test_a_job_that_failed_and_was_tried_again_is_told_to_its_real_end(door, engine):
    opened = door()
    sent = opened.ask("/jobs", body={"source": "a"}).json["id"]
    jobs.fail(sent, "decode", JobError(ErrorCode.UNDECODABLE, "noise"))
    jobs.restart(sent, "decode")
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(opened.ask, f"/jobs/{sent}/events")
        engine()

    last = [line for line in told.result().body.decode().splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["status"] == "done"


def test_a_job_is_cancelled_once_and_deleted_for_good(door):
    opened = door()
    sent = opened.ask("/jobs", body={"source": "a"}).json["id"]

    assert opened.ask(f"/jobs/{sent}/cancel", method="POST").json == {"id": sent, "cancelled": True}
    assert opened.ask(f"/jobs/{sent}/cancel", method="POST").json["cancelled"] is False
    assert opened.ask(f"/jobs/{sent}", method="DELETE").status == 204
    assert opened.ask(f"/jobs/{sent}").code == "unknown_job"
    assert opened.ask(f"/jobs/{sent}", method="DELETE").code == "unknown_job"


def test_what_lies_beside_a_record_in_redis_is_no_job(door):
    opened = door()
    jobs.create("sent", "voice.ogg", Options())

    for path in ("/jobs/sent:events", "/jobs/sent:events/events", "/jobs/sent%3Aevents"):
        answer = opened.ask(path)
        assert (answer.status, answer.code) == (404, "unknown_job")
    assert opened.ask("/jobs/sent:events", method="DELETE").code == "unknown_job"
    assert opened.ask("/jobs/sent:events/cancel", method="POST").code == "unknown_job"
    assert jobs.get("sent").status == "queued"


def test_whoever_still_waits_as_the_door_stops_is_told_to_send_again(redis_url):
    app = create_app(Settings(api_keys=ENTRY, api_requests_per_minute=0))
    with ThreadPoolExecutor(1) as pool:
        with served(app) as port:
            told = pool.submit(Door(port, app).upload, "/v1/audio/transcriptions", SMALL, model="whisper-1")
            while not store.redis.info("clients")["blocked_clients"]:
                pass  # until it waits
        answer = told.result()

    assert (answer.status, answer.code) == (503, "stopping")
    assert answer.headers["x-should-retry"] == "true"
    assert jobs.get(answer.headers["X-Job-Id"]).status == "queued"


def test_a_client_that_leaves_while_it_waits_takes_its_job_with_it(door):
    opened = door()
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x\r\n'
    form += b'Content-Disposition: form-data; name="file"; filename="a.ogg"\r\n\r\nOggS\r\n--x--\r\n'
    client = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=PATIENCE)
    head = {"Authorization": f"Bearer {KEY}", "Content-Type": "multipart/form-data; boundary=x"}
    client.request("POST", "/v1/audio/transcriptions", form, head)
    redis_id = store.redis.blmove(keys.queue("decode"), keys.queue("decode"), 4, "LEFT", "LEFT")
    job_id = json.loads(store.redis.hget(keys.queue("decode", ".msgs"), redis_id))["message_id"]
    client.close()

    assert jobs.wait(job_id, timeout=PATIENCE).status == "cancelled"


def test_whoever_waits_too_long_is_told_where_the_job_goes_on(door):
    late = door(api_wait_timeout=0.2).upload("/v1/audio/transcriptions", SMALL, model="whisper-1")

    assert (late.status, late.code) == (504, "wait_timeout")
    assert late.headers["x-should-retry"] == "false"
    assert "GET /jobs/" in late.json["error"]["message"]
    assert jobs.get(late.headers["X-Job-Id"]).status == "queued"


def test_a_dead_letter_is_listed_and_tried_again(door):
    opened = door()
    sent = opened.ask("/jobs", body={"source": "a"}).json["id"]
    client = store.redis
    redis_id = client.lpop(keys.queue("decode"))
    client.hset(keys.queue("decode", ".XQ.msgs"), redis_id, client.hget(keys.queue("decode", ".msgs"), redis_id))
    client.hdel(keys.queue("decode", ".msgs"), redis_id)
    client.zadd(keys.queue("decode", ".XQ"), {redis_id: 1_000_000})
    jobs.fail(sent, "decode", JobError(ErrorCode.UNDECODABLE, "noise"))

    [letter] = opened.ask("/dead?stage=decode").json
    assert (letter["job_id"], letter["code"]) == (sent, "undecodable")
    assert opened.ask(f"/dead/decode/{sent}/retry", method="POST").json == {"job_id": sent, "stage": "decode"}
    assert jobs.get(sent).status == "queued"
    assert opened.ask("/dead").json == []
    assert opened.ask(f"/dead/decode/{sent}/retry", method="POST").status == 404


def test_without_redis_every_answer_says_so_and_when_to_ask_again(door, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(connection, "RETRIES", 0)
    opened = door()

    for answer in (opened.ask("/jobs/x"), opened.ask("/status"), opened.ask("/jobs", body={"source": "a"})):
        assert (answer.status, answer.code) == (503, "redis_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1


def test_answers_carry_headers_that_keep_browsers_from_doing_more_with_them(door):
    answer = door().ask("/status")

    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(answer.headers["X-Request-Id"]) == 32


@pytest.fixture
def logged(monkeypatch):
    """The next line that the door logs, as its fields; `level` among them."""
    lines = queue.SimpleQueue()
    levels = {
        level: lambda _event, level=level, **fields: lines.put(fields | {"level": level}) for level in ("info", "error")
    }
    monkeypatch.setattr(access, "log", SimpleNamespace(**levels))
    return lambda: lines.get(timeout=PATIENCE)


def test_a_fault_of_the_door_is_answered_and_logged_as_one(door, logged, monkeypatch):
    def faulty():
        raise LookupError("a fault")

    monkeypatch.setattr("voicemill.status.read", faulty)
    answer = door().ask("/status")

    assert (answer.status, answer.code) == (500, "internal")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    fault, request = logged(), logged()
    assert (fault["level"], request["status"]) == ("error", 500)
    assert isinstance(fault["exc_info"], LookupError)
    assert fault["request"] == request["request"] == answer.headers["X-Request-Id"]


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault(door, logged):
    client = http.client.HTTPConnection("127.0.0.1", door().port, timeout=PATIENCE)
    client.putrequest("POST", "/page/sign-in")
    client.putheader("Content-Type", "application/x-www-form-urlencoded")
    client.putheader("Content-Length", "10")
    client.endheaders(b"key")
    client.close()

    line = logged()
    assert (line["level"], line["status"]) == ("info", 499)
