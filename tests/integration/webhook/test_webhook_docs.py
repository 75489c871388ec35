"""The receivers in the documentation verify real deliveries."""

import os
import re
import shutil
import subprocess
import time

import pytest
from fastapi.testclient import TestClient
from receiver import SECRET

from config.environment import STATE
from config.settings import Settings
from pipeline.webhook import event
from pipeline.webhook.delivery import Deliverer
from voicemill import webhooks
from voicemill.config import ClientConfig
from voicemill.store import Store

OTHER = webhooks.generate()
BODY = event.envelope("job.done", 0, {"id": "one", "transcript": {"text": "Grüße"}})


def example(language):
    found = re.findall(rf"```{language}\n(.*?)```", (STATE.parent / "docs" / "webhooks.md").read_text(), re.DOTALL)
    return max(found, key=len)


def test_the_python_example_verifies(monkeypatch, capsys):
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    names = {}
    exec(compile(example("python"), "webhooks.md", "exec"), names)
    client = TestClient(names["app"])
    for secret, status in ((SECRET, 204), (f"{OTHER} {SECRET}", 204), (OTHER, 401)):
        headers = webhooks.sign("msg_1", int(time.time()), BODY, webhooks.secrets(secret))
        assert client.post("/hooks/voicemill", content=BODY, headers=headers).status_code == status
    assert capsys.readouterr().out == "one Grüße\n" * 2


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_javascript_example_verifies(tmp_path):
    (tmp_path / "receiver.mjs").write_text(example("javascript"))
    with subprocess.Popen(
        ["node", tmp_path / "receiver.mjs"],
        env=os.environ | {"WEBHOOK_SECRET": SECRET, "PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        try:
            port = node.stdout.readline().split()[-1]
            for secret, status in ((SECRET, 204), (f"{OTHER} {SECRET}", 204), (OTHER, 401)):
                limits = {"webhook_allow_http": True, "webhook_allow_private": True, "webhook_timeout": 60}
                deliverer = Deliverer(Settings(webhook_secret=secret, **limits), Store(ClientConfig()))
                assert deliverer.send(f"http://127.0.0.1:{port}/", "msg_1", BODY).status == status
        finally:
            node.terminate()
