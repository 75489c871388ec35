"""The HTTP API with a real Redis: who may call, how much, and what jobs look like from outside."""

import http.client
import json
import select
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from http_api import ENTRY, KEY, TIMEOUT, HttpApi, served
from live import audio, jobs, queues, store

from config.settings import Settings
from voicemill import Client, options
from voicemill.errors import ErrorCode, JobError
from voicemill.options import Options
from voicemill.store import keys
from web import auth, forms, limits
from web.app import create_app
from web.limits import Timeouts

SMALL = b"OggS" * 100


def test_nothing_is_readable_without_a_valid_key(serve):
    api = serve()

    for path in ("/v1/models", "/jobs/x", "/jobs/x/events", "/status", "/dead"):
        for key in (None, "", "vm_wrong", "a key with blanks"):
            refused = api.request(path, key=key)
            assert (refused.status, refused.code) == (401, "invalid_api_key")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert api.request("/v1/models").status == 200
    assert api.request("/healthz", key=None).status == 200


def test_a_cookie_authenticates_unless_another_site_sent_the_request(serve):
    api, cookie = serve(), {"Cookie": f"voicemill_key={KEY}"}
    jobs.create("kept", "voice.ogg", Options())

    assert api.request("/jobs/kept", key=None, **cookie).status == 200
    for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert api.request("/jobs/kept", method="DELETE", key=None, **cookie, **header).status == 401
    assert jobs.get("kept").status == "queued"
    assert api.request("/jobs/kept", method="DELETE", key=None, Origin=api.url, **cookie).status == 204


def test_without_keys_only_this_machine_may_call_and_no_page_of_another_site(serve):
    api = serve(api_keys=None)
    jobs.create("kept", "voice.ogg", Options())

    assert api.request("/jobs/kept", key=None).status == 200
    assert api.request("/jobs/kept", key=None, Host="rebound.example").code == "forbidden"
    assert api.request("/jobs/kept", key=None, method="DELETE", Origin="https://evil.example").code == "forbidden"


def test_only_configured_origins_may_read_from_a_browser(serve):
    origin = {"Origin": "https://app.example.com"}

    assert "access-control-allow-origin" not in serve().request("/v1/models", **origin).headers
    named = serve(api_cors_origins="https://app.example.com")
    assert named.request("/v1/models", **origin).headers["access-control-allow-origin"] == origin["Origin"]
    assert "access-control-allow-origin" not in named.request("/v1/models", Origin="https://evil.example").headers


def test_the_rate_limit_of_a_key_counts_over_all_servers(serve):
    other, entry = auth.generate("other")
    settings = {"api_requests_per_minute": 5, "api_keys": f"{auth.generate('x')[1]} {entry}"}
    servers = [serve(**settings), serve(**settings)]

    answers = [servers[number % 2].request("/v1/models", key=other) for number in range(8)]

    assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
    assert answers[-1].code == "rate_limit_exceeded"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= limits.MINUTE + 1
    store.redis.flushdb()
    assert servers[0].request("/v1/models", key=other).status == 429  # an eager client costs Redis nothing


def test_a_body_that_is_too_large_is_rejected_by_its_length_and_by_its_bytes(serve):
    api = serve(api_max_bytes=200_000)
    large = b"\0" * 400_000

    assert api.upload("/jobs", large).code == "source_too_large"
    assert api.upload("/jobs", large * 40).code == "source_too_large"  # more than the sockets buffer
    unauthorized = {"key": "wrong", "body": large * 40, "Content-Type": "multipart/form-data; boundary=x"}
    assert serve().request("/jobs", **unauthorized).status == 401  # the answer arrives although the client still sends
    assert api.request("/jobs", body=b" " * (limits.SMALL + 1), **{"Content-Type": "application/json"}).status == 413
    assert api.request("/jobs", body=b"{}", **{"Content-Length": "0" * 5000 + "2"}).status == 413
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=TIMEOUT)
    head = {"Authorization": f"Bearer {KEY}", "Content-Type": "multipart/form-data; boundary=x"}
    frame = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.ogg"\r\n\r\n'
    connection.request("POST", "/jobs", iter([frame, large, b"\r\n--x--\r\n"]), head, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert audio.total_bytes() == 0
    assert queues.depths()["decode"].waiting == 0


def test_only_uploads_may_be_large(serve):
    api = serve()
    head = {"Content-Type": "multipart/form-data; boundary=x"}
    pieces = [b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\n', b"a" * (limits.TINY + 1), b"\r\n--x--\r\n"]

    for path in ("/page/sign-in", "/page/preferences", "/page/sign-out", "/jobs/x/cancel"):
        answer = api.request(path, method="POST", key=None, body=b"".join(pieces), **head)
        assert (answer.status, answer.code) == (413, "source_too_large"), path
    for path in ("/page/sign-in", "/page/preferences"):
        client = http.client.HTTPConnection("127.0.0.1", api.port, timeout=TIMEOUT)
        client.request("POST", path, iter(pieces), head, encode_chunked=True)
        assert client.getresponse().status == 413, path
        client.close()
    assert api.upload("/jobs", b"\0" * (limits.TINY + 1)).status == 202


def test_a_body_that_arrives_too_slowly_is_rejected(serve):
    api = serve(timeouts=Timeouts(body=0.5, slowest_body=100))
    stopped = threading.Event()

    def drops():
        while not stopped.wait(0.05):  # never silent for long, but 20 bytes a second
            yield b"k"

    client = http.client.HTTPConnection("127.0.0.1", api.port, timeout=TIMEOUT)
    client.connect()
    head = {"Content-Type": "application/x-www-form-urlencoded"}
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.request, "POST", "/page/sign-in", drops(), head, encode_chunked=True)
        readable, _, _ = select.select([client.sock], [], [], 20)
        stopped.set()
        sending.result()

    assert readable, "the server still waits for more"
    assert client.getresponse().status == 408
    client.close()


def test_a_message_sent_by_its_url_is_queued_with_its_options(serve):
    sent = serve().request("/jobs", body={"source": "https://a.example/v.ogg?s=1", "options": {"language": "ko"}})

    assert sent.status == 202
    assert sent.headers["Location"] == f"/jobs/{sent.json['id']}"
    assert jobs.get(sent.json["id"]).options.language == "ko"
    assert queues.depths()["decode"].waiting == 1


def test_an_upload_reaches_the_store_unchanged(serve):
    data = bytes(range(256)) * 9000
    sent = serve().upload("/jobs", data, options='{"enrich": false}')

    assert b"".join(audio.read_upload(jobs.raw_source(sent.json["id"]))) == data
    assert jobs.get(sent.json["id"]).options.enrich is False


WRONG = [
    (b"{", "invalid_request"),
    (b"[" * 100_000, "invalid_request"),
    (b'{"source": 1}', "invalid_request"),
    (b'{"source": "a", "options": []}', "invalid_request"),
    (b'{"source": "  "}', "invalid_options"),
    (b'{"source": "\\ud800"}', "invalid_request"),
    (b'{"source": "a", "options": {"nix": 1}}', "invalid_options"),
    (b'{"source": "a", "options": {"source": "b"}}', "invalid_options"),
    (b'{"source": "a", "options": {"self": "b"}}', "invalid_options"),
    (b'{"source": "a", "options": {"language": "xx"}}', "invalid_options"),
    (b'{"source": "a", "options": {"callback_url": "ftp://a"}}', "invalid_options"),
    (b'{"source": "a", "options": {"metadata": NaN}}', "invalid_options"),
]


def test_an_invalid_request_is_explained_and_queues_nothing(serve):
    api = serve()

    for body, code in WRONG:
        refused = api.request("/jobs", body=body, **{"Content-Type": "application/json"})
        assert (refused.status, refused.code) == (400, code), body[:60]
    assert queues.depths()["decode"].waiting == 0


@pytest.mark.parametrize("name", ["data", "filename", "self"])
def test_an_option_named_like_a_parameter_of_the_client_is_unknown(serve, name):
    rejected = serve().upload("/jobs", SMALL, options=json.dumps({name: "x"}))

    assert (rejected.status, rejected.code) == (400, "invalid_options")


def test_the_description_of_a_new_job_lists_every_option(serve):
    described = serve().request("/openapi.json").json["paths"]["/jobs"]["post"]["requestBody"]["content"]

    properties = described["application/json"]["schema"]["properties"]["options"]["properties"]
    assert {name: each["description"] for name, each in properties.items()} == {
        name: options.rules(name).help for name in options.TABLE
    }
    assert properties["task"]["enum"] == list(options.TASKS)


def test_a_full_system_says_when_to_retry(serve):
    api = serve(config={"max_queued": 1})
    assert api.request("/jobs", body={"source": "a"}).status == 202

    for full in (
        api.request("/jobs", body={"source": "a"}),
        api.upload("/v1/audio/transcriptions", SMALL, model="whisper-1"),
    ):
        assert (full.status, full.code) == (503, "system_full")
        assert int(full.headers["Retry-After"]) >= 1
    assert audio.total_bytes() == 0  # nothing is left of a rejected upload
    client = http.client.HTTPConnection("127.0.0.1", api.port, timeout=TIMEOUT)
    client.putrequest("POST", "/jobs")
    for name, value in {"Authorization": f"Bearer {KEY}", "Content-Length": "2000000"}.items():
        client.putheader(name, value)
    client.putheader("Content-Type", "multipart/form-data; boundary=x")
    client.endheaders()
    assert client.getresponse().status == 503  # before the body is sent in vain
    client.close()


def test_the_fields_of_an_openai_form_become_options(serve):
    form = {"language": "EN", "prompt": "Voicemill", "enrich": "true", "response_format": "verbose_json"}
    form |= {"timestamp_granularities[]": "word"}
    late = serve(api_wait_timeout=0.2).upload("/v1/audio/translations", SMALL, model="whisper-1", **form)

    sent = jobs.get(late.headers["X-Job-Id"]).options
    assert sent == Options(task="translate", language="en", prompt="Voicemill", enrich=True, word_timestamps=True)


def test_a_full_store_says_when_to_retry(serve):
    assert serve().upload("/jobs", SMALL).status == 202

    full = serve(config={"max_handoff_bytes": 100}).upload("/jobs", SMALL)

    assert (full.status, full.code) == (503, "handoff_full")
    assert int(full.headers["Retry-After"]) >= 1
    assert "MAX_HANDOFF_BYTES" in full.json["error"]["message"]


@pytest.mark.parametrize("path", ["/jobs", "/v1/audio/transcriptions"])
def test_a_full_disk_is_reported(serve, monkeypatch, tmp_path, path):
    api = serve()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))

    with structlog.testing.capture_logs() as logged:
        full = api.upload(path, b"x" * 2 * forms.LARGE, model="whisper-1")

    assert (full.status, full.code) == (503, "disk_full")
    assert int(full.headers["Retry-After"]) >= 1
    [warning] = [line for line in logged if line["log_level"] == "warning"]
    assert "TMPDIR" in warning["event"]
    assert warning["folder"] == str(tmp_path / "none")


def test_a_job_is_read_as_a_record_text_and_subtitles(serve, engine):
    api = serve()
    sent = api.request("/jobs", body={"source": "a"}).json["id"]
    assert api.request(f"/jobs/{sent}?format=srt").code == "no_transcript"
    engine()

    assert api.request(f"/jobs/{sent}").json["status"] == "done"
    for form, kind in (("txt", "text/plain"), ("srt", "text/plain"), ("vtt", "text/vtt")):
        answer = api.request(f"/jobs/{sent}?format={form}")
        assert answer.status == 200
        assert b"Thursday" in answer.body
        assert answer.headers.get_content_type() == kind
    assert api.request(f"/jobs/{sent}?format=doc").status == 400
    assert api.request("/jobs/nix").code == "unknown_job"


def test_events_are_streamed_live_and_resume_after_the_last_one(serve, engine):
    api = serve()
    sent = api.request("/jobs", body={"source": "a"}).json["id"]
    with api.events(sent) as stream:
        assert stream.headers.get_content_type() == "text/event-stream"
        first = next_event(stream)
        engine()
        rest = list(iter(lambda: next_event(stream), None))

    assert first[1]["status"] == "queued"
    assert [event["status"] for _, event in rest][-1] == "done"
    again = api.request(f"/jobs/{sent}/events", **{"Last-Event-ID": first[0]})
    assert again.body.decode().count("data: ") == len(rest)
    assert api.request(f"/jobs/{sent}/events", **{"Last-Event-ID": rest[-1][0]}).status == 204
    assert api.request("/jobs/nix/events").code == "unknown_job"


def test_a_silent_event_stream_sends_keep_alives(serve):
    api = serve(timeouts=Timeouts(keep_alive=0.0, event_block=20))
    sent = api.request("/jobs", body={"source": "a"}).json["id"]
    with api.events(sent) as stream:
        assert b": keep-alive\n" in iter(stream.readline, b"")


def test_an_event_stream_survives_a_lost_connection_to_redis(serve, engine):
    api, admin = serve(), store.redis
    sent = api.request("/jobs", body={"source": "a"}).json["id"]
    with api.events(sent) as stream:
        assert next_event(stream)[1]["status"] == "queued"
        following = []
        while not following:
            following = [found["id"] for found in admin.client_list() if found["cmd"] == "xread"]
        admin.client_kill_filter(_id=following[0])
        engine()
        assert [event["status"] for _, event in iter(lambda: next_event(stream), None)][-1] == "done"


def next_event(stream):
    """Return the next event with its id; None: the stream is over."""
    event_id = None
    for line in stream:
        name, _, value = line.decode().strip().partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            return event_id, json.loads(value)
    return None


def test_events_of_a_retried_job_go_on_to_its_final_end(serve, engine):
    api = serve()
    sent = api.request("/jobs", body={"source": "a"}).json["id"]
    jobs.fail(sent, "decode", JobError(ErrorCode.UNDECODABLE, "noise"))
    jobs.restart(sent, "decode")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.request, f"/jobs/{sent}/events")
        engine()

    last = [line for line in answer.result().body.decode().splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["status"] == "done"


def test_a_job_is_cancelled_once_and_deleted_permanently(serve):
    api = serve()
    sent = api.request("/jobs", body={"source": "a"}).json["id"]

    assert api.request(f"/jobs/{sent}/cancel", method="POST").json == {"id": sent, "cancelled": True}
    assert api.request(f"/jobs/{sent}/cancel", method="POST").json["cancelled"] is False
    assert api.request(f"/jobs/{sent}", method="DELETE").status == 204
    assert api.request(f"/jobs/{sent}").code == "unknown_job"
    assert api.request(f"/jobs/{sent}", method="DELETE").code == "unknown_job"


def test_other_keys_of_a_job_are_no_jobs(serve):
    api = serve()
    jobs.create("sent", "voice.ogg", Options())

    for path in ("/jobs/sent:events", "/jobs/sent:events/events", "/jobs/sent%3Aevents"):
        answer = api.request(path)
        assert (answer.status, answer.code) == (404, "unknown_job")
    assert api.request("/jobs/sent:events", method="DELETE").code == "unknown_job"
    assert api.request("/jobs/sent:events/cancel", method="POST").code == "unknown_job"
    assert jobs.get("sent").status == "queued"


def test_a_request_that_waits_while_the_server_stops_is_to_be_sent_again(redis_url):
    with ThreadPoolExecutor(1) as pool, Client() as client:
        app = create_app(Settings(api_keys=ENTRY, api_requests_per_minute=0), client)
        with served(app) as port:
            waiting = pool.submit(HttpApi(port).upload, "/v1/audio/transcriptions", SMALL, model="whisper-1")
            while not store.redis.info("clients")["blocked_clients"]:
                time.sleep(0.01)  # until it waits
        answer = waiting.result()

    assert (answer.status, answer.code) == (503, "stopping")
    assert answer.headers["x-should-retry"] == "true"
    assert jobs.get(answer.headers["X-Job-Id"]).status == "queued"


def test_a_client_that_disconnects_cancels_its_job(serve):
    api = serve()
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x\r\n'
    form += b'Content-Disposition: form-data; name="file"; filename="a.ogg"\r\n\r\nOggS\r\n--x--\r\n'
    client = http.client.HTTPConnection("127.0.0.1", api.port, timeout=TIMEOUT)
    head = {"Authorization": f"Bearer {KEY}", "Content-Type": "multipart/form-data; boundary=x"}
    client.request("POST", "/v1/audio/transcriptions", form, head)
    redis_id = store.redis.blmove(keys.queue("decode"), keys.queue("decode"), 4, "LEFT", "LEFT")
    job_id = json.loads(store.redis.hget(keys.queue("decode", ".msgs"), redis_id))["message_id"]
    client.close()

    assert jobs.wait(job_id, timeout=TIMEOUT).status == "cancelled"


def test_a_wait_that_times_out_names_the_job(serve):
    late = serve(api_wait_timeout=0.2).upload("/v1/audio/transcriptions", SMALL, model="whisper-1")

    assert (late.status, late.code) == (504, "wait_timeout")
    assert late.headers["x-should-retry"] == "false"
    assert "GET /jobs/" in late.json["error"]["message"]
    assert jobs.get(late.headers["X-Job-Id"]).status == "queued"


def test_a_dead_letter_is_listed_and_retried(serve):
    api = serve()
    sent = api.request("/jobs", body={"source": "a"}).json["id"]
    client = store.redis
    redis_id = client.lpop(keys.queue("decode"))
    client.hset(keys.queue("decode", ".XQ.msgs"), redis_id, client.hget(keys.queue("decode", ".msgs"), redis_id))
    client.hdel(keys.queue("decode", ".msgs"), redis_id)
    client.zadd(keys.queue("decode", ".XQ"), {redis_id: 1_000_000})
    jobs.fail(sent, "decode", JobError(ErrorCode.UNDECODABLE, "noise"))

    [letter] = api.request("/dead?stage=decode").json
    assert (letter["job_id"], letter["code"]) == (sent, "undecodable")
    assert api.request(f"/dead/decode/{sent}/retry", method="POST").json == {"job_id": sent, "stage": "decode"}
    assert jobs.get(sent).status == "queued"
    assert api.request("/dead").json == []
    assert api.request(f"/dead/decode/{sent}/retry", method="POST").status == 404


def test_every_answer_without_redis_says_when_to_retry():
    with Client("redis://127.0.0.1:1/0") as client:
        app = create_app(Settings(api_keys=ENTRY, api_requests_per_minute=0), client)
        with served(app) as port:
            api = HttpApi(port)
            answers = [api.request("/jobs/x"), api.request("/status"), api.request("/jobs", body={"source": "a"})]

    for answer in answers:
        assert (answer.status, answer.code) == (503, "redis_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert b"127.0.0.1" not in answer.body, "where Redis is, is no business of a client"


def test_answers_have_protective_headers(serve):
    answer = serve().request("/status")

    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(answer.headers["X-Request-Id"]) == 32


class Broken(Client):
    """A client with a bug."""

    def status(self):
        raise LookupError("a bug")


def test_a_bug_is_answered_and_logged(serve):
    with Broken() as client, structlog.testing.capture_logs() as logged:
        answer = serve(client=client).request("/status")
        eventually(lambda: len(logged) == 2)

    assert (answer.status, answer.code) == (500, "internal")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    bug, request = logged
    assert (bug["log_level"], request["status"]) == ("error", 500)
    assert isinstance(bug["exc_info"], LookupError)
    assert bug["request"] == request["request"] == answer.headers["X-Request-Id"]


def test_a_client_that_disconnects_in_the_middle_of_its_body_is_no_error(serve):
    api = serve()
    with structlog.testing.capture_logs() as logged:
        client = http.client.HTTPConnection("127.0.0.1", api.port, timeout=TIMEOUT)
        client.putrequest("POST", "/page/sign-in")
        client.putheader("Content-Type", "application/x-www-form-urlencoded")
        client.putheader("Content-Length", "10")
        client.endheaders(b"key")
        client.close()
        eventually(lambda: logged)

    [line] = logged
    assert (line["log_level"], line["status"]) == ("info", 499)


def eventually(condition):
    """Wait until a condition is true."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
