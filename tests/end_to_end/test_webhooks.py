"""A backend that does not wait: it is told, by the real worker groups, and verifies who tells it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks.webhooks import Webhook

from actors import decode
from pipeline import jobs

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the stages' own, in conftest.py


@pytest.fixture
def told():
    """A list of what was verified, with its server's address; it grows."""
    events, more = [], threading.Condition()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            event = Webhook(SECRET).verify(body, dict(self.headers))
            self.send_response(204)
            self.end_headers()
            with more:
                events.append(event)
                more.notify_all()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        def until(count):
            with more:
                assert more.wait_for(lambda: len(events) >= count, timeout=60), events
            return events

        yield f"http://127.0.0.1:{server.server_port}/hook?token=secret", until
        server.shutdown()
        thread.join()


def test_a_backend_is_told_of_transcript_result_and_failure_and_can_verify_it(backend, told):
    url, until = told
    job_id = decode.send("en.ogg", language="en", metadata={"chat": 7}, callback_url=url).message_id
    transcribed, done = until(2)

    assert [event["type"] for event in (transcribed, done)] == ["job.transcribed", "job.done"]
    assert transcribed["data"]["id"] == done["data"]["id"] == job_id
    assert "meeting" in transcribed["data"]["transcript"]["text"]
    assert (transcribed["data"]["status"], transcribed["data"]["enrichment_skipped"]) == ("transcribed", None)
    assert done["data"]["enrichment_skipped"]
    assert done["data"]["metadata"] == {"chat": 7}
    record = json.loads(json.dumps(jobs.get(job_id).as_dict()))
    assert record.pop("webhook")["receiver"] == url.removesuffix("/hook?token=secret")
    assert done["data"] == record

    failing = decode.send("empty.ogg", callback_url=url).message_id
    failed = until(3)[2]
    assert (failed["type"], failed["data"]["id"]) == ("job.failed", failing)
    assert failed["data"]["error"]["code"] == "empty_source"
    assert not [line for line in backend.lines if "secret" in line]
