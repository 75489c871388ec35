"""The real OpenAI client with the HTTP API and real workers."""

import os
import re
import signal
import subprocess
import sys

import openai
import pytest
from conftest import CLONE, ffmpeg
from hearing import SENTENCE, word_error_rate

from web import auth

KEY, ENTRY = auth.generate("client")


@pytest.fixture(scope="module")
def server(stages_redis):
    """Run `web` on a free port, yield its URL, and check how it ends and what it has logged."""
    variables = {
        "REDIS_URL": stages_redis,
        "API_KEYS": ENTRY,
        "API_MAX_BYTES": "300000",
        "WHISPER_MODEL": "bundled:base",
        "LOG_FORMAT": "json",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "web", "--port", "0"],
        cwd=CLONE,
        env=os.environ | variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                break
        yield f"http://127.0.0.1:{found[1]}"
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 0
        log = "".join(lines) + rest
        assert '"caller": "client"' in log
        for secret in (KEY, "Voicemill", "meeting"):  # a prompt, a transcript
            assert secret not in log
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def client(backend, server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key=KEY, max_retries=0, timeout=100) as made:
        yield made


def test_every_response_format_is_what_the_client_expects(client, media):
    def transcribed(**fields):
        with (media / "en.ogg").open("rb") as file:
            return client.audio.transcriptions.create(model="whisper-1", file=file, language="en", **fields)

    text = transcribed(response_format="text", temperature=0.2, prompt="Voicemill")
    for heard in (transcribed().text, text):
        assert word_error_rate(heard, SENTENCE) < 0.4
    assert re.match(r"1\n00:00:00,\d{3} --> ", transcribed(response_format="srt"))
    assert transcribed(response_format="vtt").startswith("WEBVTT\n\n00:00:00.")
    plain = transcribed(response_format="verbose_json")
    assert (plain.language, plain.segments[0].id, plain.words) == ("english", 0, None)
    assert 3 < plain.duration < 6
    words = transcribed(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert " ".join(word.word for word in words.words) == words.text
    assert words.segments[-1].end <= words.duration + 0.5


def test_a_translation_is_english(client, media):
    with (media / "de.ogg").open("rb") as file:
        made = client.audio.translations.create(model="bundled:base", file=file, response_format="verbose_json")

    assert made.language == "english"
    assert made.text


def test_a_second_of_audio_is_transcribed_and_an_empty_file_is_rejected(client, media):
    ffmpeg("-i", media / "en.wav", "-t", "1", media / "second.mp3")
    with (media / "second.mp3").open("rb") as file:
        made = client.audio.transcriptions.create(model="whisper-1", file=file, response_format="verbose_json")
    assert made.duration == pytest.approx(1, abs=0.15)

    with pytest.raises(openai.BadRequestError) as empty:
        client.audio.transcriptions.create(model="whisper-1", file=("empty.ogg", b""))
    assert empty.value.code == "empty_source"


def test_errors_are_of_the_classes_that_the_client_knows(client, media, server):
    def refused(error, data=b"OggS", **fields):
        with pytest.raises(error) as caught:
            client.audio.transcriptions.create(**{"model": "whisper-1", "file": ("a.ogg", data)} | fields)
        return caught.value.code, caught.value.param

    assert refused(openai.BadRequestError, b"This is a letter. " * 50) == ("undecodable", "file")
    assert refused(openai.BadRequestError, (media / "mute.mp4").read_bytes()) == ("no_audio_stream", "file")
    assert refused(openai.NotFoundError, model="gpt-9") == ("model_not_found", "model")
    assert refused(openai.BadRequestError, response_format="docx") == ("invalid_request", "response_format")
    assert refused(openai.BadRequestError, stream=True) == ("unsupported_parameter", "stream")
    assert refused(openai.BadRequestError, language="xx")[0] == "invalid_options"
    assert refused(openai.BadRequestError, temperature=7) == ("invalid_request", "temperature")
    assert refused(openai.BadRequestError, timestamp_granularities=["word"])[1] == "timestamp_granularities"
    assert refused(openai.APIStatusError, b"\0" * 2_000_000) == ("source_too_large", "file")
    assert refused(openai.BadRequestError, include=["logprobs"]) == ("unsupported_parameter", "include")
    assert [model.id for model in client.models.list()] == ["whisper-1", "bundled:base"]
    assert client.models.retrieve("bundled:base").owned_by == "voicemill"
    stranger = openai.OpenAI(base_url=f"{server}/v1", api_key="sk-wrong", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError) as wrong:
        stranger.models.list()
    assert wrong.value.code == "invalid_api_key"
