"""Each line of the Procfile as a command of its own: how it starts, refuses to start, and stops."""

import json
import os
import shutil
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from live import audio, jobs, queues, store
from processes import becomes, children, end
from processes import models as slots

from config.environment import STATE
from pipeline.transcribe.backends.whisper import models
from voicemill import decode
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import letter

CLONE = STATE.parent


@pytest.mark.parametrize("arguments", [["actors"], ["actors", "-Q", "transcripts"]])
def test_bare_dramatiq_actors_names_the_commands_to_use(dramatiq, arguments):
    process = dramatiq(*arguments)

    out, _ = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "`dramatiq actors.transcribe`" in out
    assert "Traceback" not in out


def test_bare_dramatiq_actors_runs_the_stages_named_by_queue(dramatiq, until):
    process = dramatiq("actors", "-Q", "decode", "enrich")

    lines = until(process, '"stage": "enrich"') + until(process, "ready for action")

    assert any("Stage ready" in line and '"stage": "decode"' in line for line in lines)
    assert any("Stage ready" in line and '"stage": "enrich"' in line for line in lines)


@pytest.mark.parametrize("stage", ["decode", "transcribe", "enrich"])
@pytest.mark.parametrize("whole_group", [False, True], ids=["master", "group"])
def test_a_stage_stops_cleanly_on_sigterm_also_when_the_whole_group_gets_it(dramatiq, stage, whole_group, until):
    process = dramatiq(f"actors.{stage}")
    until(process, "ready for action")
    started = children(process.pid)

    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)

    out = process.stdout.read()
    assert process.wait(timeout=60) == 0, out
    assert "Killing" not in out
    assert end(started)


def test_a_stage_stops_cleanly_on_ctrl_c_which_goes_to_the_whole_group(dramatiq, until):
    process = dramatiq("actors.decode")
    until(process, "ready for action")
    started = children(process.pid)

    os.killpg(process.pid, signal.SIGINT)

    out = process.stdout.read()
    assert process.wait(timeout=60) == 0, out
    assert "Traceback" not in out
    assert end(started)


def test_a_job_cancelled_while_it_is_decoded_leaves_no_audio_and_no_further_message(dramatiq, redis_url, until):
    asked, answer = threading.Event(), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.set()
            answer.wait(60)
            voice = (CLONE / "samples" / "voice-message.ogg").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(voice)))
            self.end_headers()
            self.wfile.write(voice)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.handle_request).start()
        process = dramatiq("actors.decode", SOURCE_ALLOW_HTTP="true", SOURCE_ALLOW_PRIVATE="true")
        until(process, "ready for action")
        job_id = decode.send(f"http://127.0.0.1:{server.server_port}/voice.ogg").message_id
        assert asked.wait(30)

        assert jobs.get(job_id).status == "decoding"
        assert jobs.cancel(job_id)
        answer.set()

        client = store.redis
        assert becomes(lambda: not client.hlen("{voicemill}:decode.msgs"))
    assert jobs.get(job_id).status == "cancelled"
    assert not audio.exists(job_id)
    assert client.hlen("{voicemill}:transcribe.msgs") == 0


def test_nothing_is_orphaned_when_the_master_is_killed(dramatiq, until):
    process = dramatiq("actors.transcribe")
    until(process, "ready for action")
    started = children(process.pid)
    assert len(started) >= 2

    process.kill()

    assert end(started)


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"REDIS_URL": "redis://127.0.0.1:1/0", "REDIS_START_TIMEOUT": "0.2"}, 3, "was not there within 0.2 s"),
        ({"REDIS_URL": "http://example.com"}, 2, "REDIS_URL is"),
        ({"LOG_LEVEL": "loud"}, 2, "LOG_LEVEL is 'loud'"),
    ],
)
def test_a_stage_that_cannot_start_gives_the_reason_in_one_line_and_an_exit_code(dramatiq, variables, code, said):
    process = dramatiq("actors.decode", **variables)

    out, _ = process.communicate(timeout=60)

    assert process.returncode == code, out
    assert said in out
    assert "Traceback" not in out


def test_a_worker_whose_model_does_not_come_back_exits_1_and_hands_the_job_back(dramatiq, tmp_path, redis_url, until):
    model = shutil.copytree(models.resolve("bundled:tiny.en", None), tmp_path / "model")
    process = dramatiq("actors.transcribe", WHISPER_MODEL=str(model), WHISPER_CPU_REPLICAS="1")
    until(process, "ready for action")
    shutil.rmtree(model)

    for pid in slots(process.pid):
        os.kill(pid, signal.SIGKILL)
    jobs.create("j", "voice-message.ogg", Options())
    audio.put("j", CLONE / "samples" / "voice-message.ogg")
    queues.push(letter("transcribe", "j"))

    out = process.stdout.read()
    assert process.wait(timeout=60) == 1, out
    assert "No slot of the engine is left" in out
    assert jobs.get("j").status == "transcribing"
    client = store.redis
    assert client.hlen("{voicemill}:transcribe.msgs") + client.hlen("{voicemill}:transcribe.DQ.msgs") == 1
    told = client.xrange(keys.events("j"))[-1][1][b"event"]
    assert json.loads(told)["detail"]["retry"]["code"] == "gpu_unfit"


def test_a_message_that_does_not_end_within_the_shutdown_timeout_is_handed_back(dramatiq, redis_url, until):
    process = dramatiq("actors.transcribe", WHISPER_CPU_REPLICAS="1", SHUTDOWN_TIMEOUT="0.2")
    until(process, "ready for action")
    for pid in slots(process.pid):
        os.kill(pid, signal.SIGSTOP)
    jobs.create("j", "voice-message.ogg", Options())
    audio.put("j", CLONE / "samples" / "voice-message.ogg")
    queues.push(letter("transcribe", "j"))
    next(event for event in jobs.events("j", timeout=30) if event.status == "transcribing")

    process.terminate()

    out = process.stdout.read()
    assert process.wait(timeout=60) == 0, out
    assert "Killing" not in out
    client = store.redis
    assert client.hlen("{voicemill}:transcribe.msgs") + client.hlen("{voicemill}:transcribe.DQ.msgs") == 1
    assert list(client.scan_iter("*__acks__*")) == []
    told = client.xrange(keys.events("j"))[-1][1][b"event"]
    assert json.loads(told)["detail"]["retry"]["code"] == "worker_stopped"


def test_a_model_that_is_not_there_stops_the_transcribe_stage_with_a_line(dramatiq):
    process = dramatiq("actors.transcribe", WHISPER_MODEL="/nowhere/model")

    out, _ = process.communicate(timeout=60)

    assert process.returncode != 0
    assert "/nowhere/model" in out
    assert "Traceback" not in out


def test_a_worker_whose_master_dies_while_it_boots_exits(dramatiq, redis_url, until):
    process = dramatiq("actors.transcribe", LOG_LEVEL="debug")
    until(process, "slot ready")  # the worker is about to tell its master that it is up
    started = children(process.pid)

    process.kill()

    assert end(started)
