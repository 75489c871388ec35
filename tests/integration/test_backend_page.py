"""The Python that the README, docs/backend.md and docs/upgrading.md show, run against a real Redis."""

import asyncio
import json
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
from live import jobs

from voicemill import Client, webhooks
from voicemill.lifecycle import STAGES

CLONE = Path(__file__).parents[2]
VOICE = CLONE / "samples" / "voice-message.ogg"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECRET = webhooks.generate()
TRANSCRIPT = {
    "text": "Good morning.",
    "language": "en",
    "duration": 9.1,
    "segments": [{"start": 0.0, "end": 0.7, "text": "Good morning.", "avg_logprob": -0.1, "no_speech_prob": 0.0}],
}
RESULTS = {
    "decode": {"audio": {"duration": 9.1}},
    "transcribe": {"transcript": TRANSCRIPT},
    "enrich": {"enrichment": {"title": "Greeting", "topics": ["morning"], "model": "m"}},
}


def blocks(page, *, of=None):
    """Return the Python of a page, without the receivers of webhooks; `of` a framework: its receiver."""
    found = BLOCK.findall((CLONE / page).read_text(encoding="utf-8"))
    framework = re.compile(r"^from (fastapi|flask|django)", re.MULTILINE)
    chosen = [block for block in found if (match := framework.search(block)) is None or match[1] == of]
    return [block for block in chosen if of is None or framework.search(block)]


@pytest.fixture
def workers(redis_url):
    """Stages that finish every job at once, with the same transcript."""
    del redis_url
    stopping = threading.Event()

    def work():
        while not stopping.is_set():
            for job_id in jobs.ids(100, "queued"):
                for stage in STAGES:
                    jobs.finish(job_id, stage, RESULTS[stage], token=jobs.begin(job_id, stage, "a-worker:1"))
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stopping.set()
    thread.join()


@pytest.fixture
def voice(tmp_path, monkeypatch):
    """A working directory with the voice message that the pages name, and a command line that names it."""
    shutil.copy(VOICE, tmp_path / "voice.ogg")
    monkeypatch.setattr(sys, "argv", ["backend.py", "voice.ogg"])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", ["README.md", "docs/backend.md", "docs/upgrading.md"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("workers", "voice")
def test_the_python_of_a_page_runs_in_its_order(page, capsys):
    client = Client()
    names = {"client": client, "__name__": page}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)

    assert "Good morning." in capsys.readouterr().out
    client.close()


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_the_receivers_for_other_frameworks_are_python(framework):
    (block,) = blocks("docs/backend.md", of=framework)

    compile(block, framework, "exec")


@pytest.mark.parametrize(("secret", "status"), [(SECRET, 204), (webhooks.generate(), 401)], ids=["right", "wrong"])
def test_the_receiver_for_fastapi_takes_what_is_signed_with_its_secret_alone(secret, status, monkeypatch, capsys):
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    names = {"__name__": "receiver"}
    for block in blocks("docs/backend.md", of="fastapi"):
        exec(compile(block, "docs/backend.md", "exec"), names)
    body = json.dumps({"type": "job.done", "data": {"id": "a-job"}}).encode()
    headers = webhooks.sign("msg_1", int(time.time()), body, webhooks.secrets(secret))

    assert asyncio.run(post(names["app"], "/hooks/voicemill", body, headers)) == status
    assert ("a-job" in capsys.readouterr().out) == (status == 204)


async def post(app, path, body, headers):
    """Send a request to an ASGI application and return the status of its answer."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    return sent[0]["status"]
