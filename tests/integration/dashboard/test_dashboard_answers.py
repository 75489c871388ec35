"""The dashboard over HTTP: headers, ranges of audio, rejections, and how records of every kind are shown."""

import json
import re
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
import redis
from fastapi.testclient import TestClient
from live import audio, jobs, store
from pydantic import SecretStr

from config.environment import STATE
from config.settings import Settings
from voicemill import Client, ClientConfig
from voicemill.errors import ErrorCode, JobError
from voicemill.job import Failure
from voicemill.lifecycle import STAGES
from voicemill.options import MAX_LEVELS, Options
from voicemill.store import keys
from web import auth
from web.app import create_app
from web.dashboard import respond

OURS = {"base_url": "http://127.0.0.1", "follow_redirects": False}
SAMPLE = (STATE.parent / "samples" / "voice-message.ogg").read_bytes()


@pytest.fixture
def browse(redis_url):
    """Return an HTTP client of an application with this client of Redis, or this configuration, and these settings."""
    with ExitStack() as stack:

        def start(*, client=None, config=None, **settings):
            configured = replace(ClientConfig.from_environment(), **(config or {}))
            used = client or stack.enter_context(Client(config=configured))
            return stack.enter_context(TestClient(create_app(Settings(**settings), used), **OURS))

        yield start


@pytest.fixture
def client(browse):
    return browse()


@pytest.fixture
def job(redis_url):
    jobs.create("j1", audio.upload(SAMPLE), Options())
    jobs.finish("j1", "decode", {"audio": {"duration": 9.4, "container": "ogg", "source_bytes": len(SAMPLE)}})
    return "j1"


@pytest.mark.parametrize("path", ["/page", "/page/jobs/j1", "/page/jobs/unknown", "/page/dead", "/page/sign-in"])
def test_no_page_runs_foreign_or_inline_scripts_or_is_cached(client, job, path):
    answer = client.get(path)

    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?! type=\"(module|application/json)\")|<style|\son\w+=|\sstyle=", answer.text)


def test_styles_and_scripts_are_cached_for_ever_under_a_url_that_changes_with_them(client):
    for name in respond.STATIC:
        answer = client.get(f"/page/static/{respond.VERSION}/{name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].partition(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    assert client.get("/page/static/older/style.css").status_code == 404
    assert client.get(f"/page/static/{respond.VERSION}/..%2frespond.py").status_code == 404


def test_a_player_can_seek_in_the_recording(client, job):
    whole = client.get(f"/jobs/{job}/audio")
    assert (whole.status_code, whole.content) == (200, SAMPLE)
    assert whole.headers["content-type"] == "audio/ogg"
    assert "sandbox" in whole.headers["content-security-policy"]

    part = client.get(f"/jobs/{job}/audio", headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, SAMPLE[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(SAMPLE)}"

    assert client.get(f"/jobs/{job}/audio", headers={"Range": f"bytes={len(SAMPLE)}-"}).status_code == 416


def test_the_decoded_audio_is_played_while_it_waits_if_there_is_no_upload(client, tmp_path):
    (tmp_path / "a.flac").write_bytes(b"fLaC" * 300_000)
    jobs.create("j2", "https://x.example/voice.ogg", Options())
    audio.put("j2", tmp_path / "a.flac")

    answer = client.get("/jobs/j2/audio")
    assert (answer.headers["content-type"], len(answer.content)) == ("audio/flac", 1_200_000)

    audio.delete("j2")
    assert client.get("/jobs/j2/audio").status_code == 404
    assert "cannot be played here yet" in client.get("/page/jobs/j2").text
    jobs.finish("j2", "transcribe", {"transcript": {"text": "", "segments": []}})
    assert "only until it is transcribed" in client.get("/page/jobs/j2").text


def test_an_upload_that_is_no_audio_is_never_served_as_what_it_claims_to_be(client):
    jobs.create("evil", audio.upload(b"<html><script>alert(1)</script>"), Options())

    answer = client.get("/jobs/evil/audio")

    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
    ],
)
def test_other_sites_change_nothing_even_without_keys(client, job, headers):
    for path in (f"/page/jobs/{job}/delete", f"/page/jobs/{job}/cancel", "/page/jobs", "/page/preferences"):
        answer = client.post(path, headers=headers, data={"theme": "dark"})
        assert answer.status_code == 403
        assert "another site" in answer.text
    assert jobs.get(job).status == "decoded"


def addresses(routes):
    """Yield the routes of the application as method and path; parameters of a path are `x`."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from addresses(route.original_router.routes)
        else:
            path = re.sub(r"\{stage\}", "decode", route.path)
            yield from ((method, re.sub(r"\{[^}]+\}", "x", path)) for method in route.methods)


def test_no_route_accepts_another_site_a_foreign_host_or_a_caller_without_a_key(client, browse):
    readable = {"/", "/healthz", "/openapi.json", "/page/sign-in", "/page/static/x/x"}  # by everybody
    found = sorted(set(addresses(client.app.routes)))
    changing = [(method, path) for method, path in found if method not in auth.SAFE]
    guarded = [(method, path) for method, path in found if method in auth.SAFE and path not in readable]
    assert (len(changing), len(guarded)) == (13, 10)

    for method, path in changing:
        for header in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://localhost:3000"}, {"Host": "evil.example"}):
            assert client.request(method, path, headers=header).status_code == 403, (method, path, header)
    for method, path in guarded:
        assert client.request(method, path, headers={"Host": "evil.example"}).status_code == 403, path
    locked = browse(api_keys=SecretStr(auth.generate("tests")[1]))
    locked.cookies.set(auth.COOKIE, "vm_withdrawn")
    for method, path in changing + guarded:
        if path in ("/page/sign-in", "/page/sign-out", "/page/preferences"):
            continue
        answer = locked.request(method, path)
        redirected = answer.headers.get("location", "").startswith("/page/sign-in")
        assert answer.status_code == 401 or (answer.status_code == 303 and redirected), (method, path)


def test_a_foreign_host_name_reads_nothing(client, job):
    answer = client.get("/page", headers={"Host": "evil.example"})

    assert answer.status_code == 403
    assert "stage" not in answer.text


def test_without_a_key_every_page_leads_to_the_sign_in_form_and_back(browse, job):
    key, entry = auth.generate("tests")
    client = browse(api_keys=SecretStr(entry))
    for path in ("/page", f"/page/jobs/{job}", "/page/dead", f"/jobs/{job}/audio"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/page/sign-in?next={path}")
    assert client.post("/page/sign-in", data={"key": "vm_wrong"}).status_code == 403
    assert not client.cookies

    answer = client.post("/page/sign-in", data={"key": key, "next": "https://evil.example/page"})

    assert answer.headers["location"] == "/page"
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert "samesite=strict" in answer.headers["set-cookie"].lower()
    assert client.get("/page").status_code == 200


def test_an_invalid_upload_is_explained_in_a_page_and_queues_nothing(client, browse):
    assert client.post("/page/jobs", files={"file": ("", b"")}).status_code == 400
    wrong = client.post("/page/jobs", files={"file": ("a.ogg", b"x")}, data={"language": "klingon"})
    assert (wrong.status_code, "klingon" in wrong.text) == (400, True)
    two = client.post("/page/jobs", files=[("file", ("a.ogg", b"x")), ("file", ("b.ogg", b"x"))])
    assert (two.status_code, "<h1>" in two.text) == (400, True)
    large = browse(config={"max_source_bytes": 10}).post("/page/jobs", files={"file": ("a.ogg", b"x" * 11)})
    assert (large.status_code, "source_too_large" in large.text) == (413, True)
    store.redis.hset(keys.queue("decode", ".msgs"), "m", "{}")
    full = browse(config={"max_queued": 1}).post("/page/jobs", files={"file": ("a.ogg", b"x")})
    assert full.status_code == 503
    assert not store.redis.zcard(keys.UNFINISHED)


def test_the_form_sends_its_options(client):
    form = {"language": "ko", "task": "translate", "word_timestamps": "true"}

    answer = client.post("/page/jobs", files={"file": ("a.ogg", b"x")}, data=form)

    job = jobs.get(answer.headers["location"].rpartition("/")[2])
    assert job.options == Options(language="ko", task="translate", word_timestamps=True, enrich=False)
    assert job.metadata == {"filename": "a.ogg"}


class Disconnected(Client):
    """A client whose Redis is away."""

    def status(self):
        raise redis.ConnectionError("away")


def test_a_page_without_redis_says_so_and_reloads(browse):
    with Disconnected() as away:
        answer = browse(client=away).get("/page")

    assert answer.status_code == 503
    assert "Redis does not answer" in answer.text
    assert 'http-equiv="refresh"' in answer.text


SEGMENT = {"start": 0, "end": 1, "text": "Hi.", "avg_logprob": -0.1, "no_speech_prob": 0.0}


def test_records_of_every_kind_are_shown(client):
    transcript = {"text": "", "segments": [], "no_speech": True}
    jobs.create("silent", "", Options(enrich=False))
    jobs.finish("silent", "transcribe", {"transcript": transcript}, following=None)
    assert "Nobody speaks" in client.get("/page/jobs/silent").text

    jobs.create("old", "data:audio/ogg;base64,AAAA", Options(metadata=[1, None, "x"]))
    jobs.finish("old", "decode", {"audio": {}})
    jobs.finish("old", "transcribe", {"transcript": {"text": "Hi.", "segments": [SEGMENT]}})
    error = Failure.of(JobError(ErrorCode.ENRICH_TIMEOUT, "too slow"))
    jobs.finish("old", "enrich", {"enrichment_error": error.as_dict()})
    shown = client.get("/page/jobs/old").text
    assert "enrich_timeout" in shown
    assert "Raise GEMINI_TIMEOUT" in shown

    jobs.create("notified", "voice.ogg", Options(callback_url="https://backend.example/hook"))
    jobs.cancel("notified")
    assert "https://backend.example:443" in client.get("/page/jobs/notified").text

    own = {"title": 7, "summary": ["not", "text"], "topics": "none", "action_items": {"a": 1}, "order": {"items": [1]}}
    jobs.create("own", "voice.ogg", Options())
    jobs.finish("own", "transcribe", {"transcript": transcript})
    jobs.finish("own", "enrich", {"enrichment": own})
    shown = client.get("/page/jobs/own").text
    assert all(f">{field}</h3>" in shown for field in own)

    listed = client.get("/page").text
    assert all(f"/page/jobs/{name}" in listed for name in ("silent", "old", "notified", "own"))


def test_metadata_as_deep_as_is_accepted_can_be_shown(client):
    deep = json.loads('{"a":[' * (MAX_LEVELS // 2) + '"deep"' + "]}" * (MAX_LEVELS // 2))
    with Client() as sender:
        job = sender.send("voice.ogg", metadata=deep)

    shown = client.get(f"/page/jobs/{job.id}")

    assert (shown.status_code, "deep</span>" in shown.text) == (200, True)


def test_the_time_of_a_job_is_shown_as_a_bar_and_a_table(client, job):
    times = {"created_at": 100, "finished_at": 110}
    times |= {"decode.queued_at": 100, "decode.started_at": 101, "decode.finished_at": 103, "status": "done"}
    times |= {"transcribe.queued_at": 103, "transcribe.started_at": 103.5, "transcribe.finished_at": 108}
    store.redis.hset(keys.record(job), mapping=times | {"transcribe.attempts": 1})

    section = re.search(r'<section class="seconds".*?</section>', client.get(f"/page/jobs/{job}").text, re.DOTALL)[0]

    bars = re.findall(r'<rect class="(\w+ \w+)" x="([\d.]+)%" width="([\d.]+)%"', section)
    assert bars == [
        ("decode wait", "0.0", "10.0"),
        ("decode work", "10.0", "20.0"),
        ("transcribe wait", "30.0", "5.0"),
        ("transcribe work", "35.0", "45.0"),
    ]
    table = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section))
    assert "waited worked Decode 1.0 s 2.0 s Transcribe 500 ms 4.5 s Enrich – – total 10.0 s" in table
    assert "2 times faster than real time" in table


def test_the_list_has_the_newest_jobs_first_and_leaves_out_expired_ones(client):
    for number in range(3):
        jobs.create(f"job-{number}", "voice.ogg", Options(), created_at=1000 + number)
    jobs.cancel("job-1")
    store.redis.zadd(keys.index(), {"expired": 2000})

    shown = client.get("/page").text

    assert re.findall(r'<li id="row-([^"]+)"', shown) == ["job-2", "job-1", "job-0"]


def test_the_list_shows_how_a_transcript_begins_unless_it_is_very_large(client):
    for name, text in (("short", "Hello there."), ("large", "word " * 60_000)):
        jobs.create(name, "voice.ogg", Options())
        jobs.finish(name, "transcribe", {"transcript": {"text": text, "segments": []}}, following=None)

    shown = client.get("/page").text

    assert "Hello there." in shown
    assert "word word" not in shown


def test_dead_letters_of_stages_and_webhooks_are_shown_together_the_last_first(client):
    for stage, at in (("decode", 1), ("webhook", 2)):
        jobs.create(f"job-{stage}", "voice.ogg", Options())
        jobs.fail(f"job-{stage}", "decode", JobError(ErrorCode.INTERNAL, "x"))
        bury(f"job-{stage}", f"m-{stage}", stage, at)

    shown = client.get("/page/dead").text

    assert 0 < shown.index("letter-m-webhook") < shown.index("letter-m-decode")
    assert client.post("/page/dead/decode/nobody/retry").status_code == 404


def bury(job_id, letter, stage, at):
    """Put a job's message among the dead letters."""
    key = keys.queue(stage)
    store.redis.zadd(f"{key}.XQ", {letter: at})
    store.redis.hset(f"{key}.XQ.msgs", letter, json.dumps({"message_id": job_id}))


@pytest.mark.parametrize("path", ["/page/dead", "/page/jobs/j290"])
def test_hundreds_of_dead_letters_cost_no_more_round_trips(client, path):
    def round_trips():
        return store.redis.info("stats")["total_reads_processed"]

    for number in range(300):
        jobs.create(f"j{number}", "voice.ogg", Options())
        jobs.fail(f"j{number}", "decode", JobError(ErrorCode.INTERNAL, f"reason {number}"))
        bury(f"j{number}", f"m{number}", "decode", number)
    before = round_trips()

    shown = client.get(path).text

    assert round_trips() - before < 60
    assert "/page/dead/decode/j290/retry" in shown if path != "/page/dead" else "The last 100 of 300" in shown
    assert "reason 299" in shown if path == "/page/dead" else "reason 290" in shown


def test_the_overview_shows_workers_devices_queues_times_and_rate_of_each_stage(client):
    known = {"name": "H100", "memory_used": 20e9, "memory_total": 80e9, "utilisation": 55, "temperature": 61}
    silent = {"name": "A2", "memory_used": None, "memory_total": None, "utilisation": None, "temperature": None}
    said = {"host": "vm", "pid": 7, "stages": ["transcribe"], "since": time.time(), "device": "cuda"}
    server, prefix = store.redis, keys.queue("transcribe")
    server.hset(keys.WORKERS, "b", json.dumps(said | {"gpus": [known, silent]}))
    server.zadd(keys.HEARTBEATS, {"b": time.time() * 1000})
    server.rpush(prefix, "r1", "r2")
    for name, count in ((f"{prefix}.msgs", 5), (f"{prefix}.DQ.msgs", 4)):
        server.hset(name, mapping=dict.fromkeys(map(str, range(count)), "{}"))
    for _ in range(3):
        server.lpush(keys.timings("transcribe"), json.dumps([time.time(), 0.25, 65]))
    jobs.create("new", "voice.ogg", Options())

    shown = client.get("/page").text

    card = re.search(r'<article class="stage transcribe".*?</article>', shown, re.DOTALL)[0]
    card = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", card))
    assert "1 worker · cuda vm:7 since" in card
    assert "H100 · memory 20.0 GB / 80.0 GB · busy 55 % · 61 °C A2 " in card
    assert "waiting 2 in progress 3 delayed 4 dead 0" in card
    assert "median 95 % waited 250 ms 250 ms worked 1 min 5 s 1 min 5 s" in card
    assert "3 in the last hour" in card
    assert "1 not finished" in shown


def test_a_stage_without_a_worker_and_the_age_of_its_oldest_message_are_shown(client):
    with Client() as sender:
        sender.send("voice.ogg")

    shown = client.get("/page").text

    assert shown.count("Jobs wait until a worker") == len(STAGES)
    assert re.search(r"<dd>1 <small>oldest \d+ ms</small></dd>", shown)
