"""The programs of the tutorial, run as the tutorial says, beside running stages."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hearing import SENTENCE, word_error_rate

CLONE = Path(__file__).parents[2]
TUTORIAL = CLONE / "docs" / "tutorial"


@pytest.fixture
def program():
    """Start a Python program and read its lines; it ends with the test."""
    started = []

    def start(*arguments, **variables):
        process = subprocess.Popen(
            [sys.executable, "-u", *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(CLONE)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        watchdog = threading.Timer(100, process.kill)  # readline must not outwait pytest's own limit
        watchdog.start()
        started.append((process, watchdog))
        return process

    yield start
    for process, watchdog in started:
        watchdog.cancel()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.usefixtures("stages")
def test_the_tutorials_bot_answers_a_voice_message_and_apologises_for_a_broken_one(program, stages_redis, media):
    telegram = program(TUTORIAL / "pretend_telegram.py", media / "en.ogg", media / "letter.ogg")
    words = dict(word.split("=", 1) for word in telegram.stdout.readline().split()[1:])

    program(TUTORIAL / "bot.py", REDIS_URL=stages_redis, **words)

    answers = sorted(telegram.stdout.readline() for _ in range(2))
    assert word_error_rate(answers[0].partition(": ")[2], SENTENCE) < 0.4
    assert answers[1] == "to chat 1: I cannot read this recording. Please send it again.\n"
