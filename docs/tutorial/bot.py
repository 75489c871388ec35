"""A Telegram bot that answers every voice message with its text.

    TELEGRAM_TOKEN=… REDIS_URL=redis://… python bot.py

It needs this repository on PYTHONPATH, dramatiq and redis; no model and no FFmpeg.
"""

import json
import os
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor

from actors.admission import Refused

from actors import decode
from voicemill.store import audio as handoff
from voicemill.store import jobs

API = os.environ.get("TELEGRAM_API", "https://api.telegram.org")
TOKEN = os.environ["TELEGRAM_TOKEN"]
APOLOGIES = {
    "undecodable": "I cannot read this recording. Please send it again.",
    "no_audio_stream": "There is no sound in this message.",
    "too_long": "This message is too long for me.",
}


def call(method, **parameters):
    """Call a method of Telegram's Bot API and return its result."""
    request = urllib.request.Request(
        f"{API}/bot{TOKEN}/{method}", json.dumps(parameters).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["result"]


def answer(message):
    """Turn one voice message into text and send it to its chat."""
    chat = message["chat"]["id"]
    path = call("getFile", file_id=message["voice"]["file_id"])["file_path"]
    with urllib.request.urlopen(f"{API}/file/bot{TOKEN}/{path}", timeout=60) as voice:
        source = handoff.upload(voice)
    try:
        sent = decode.send(source, metadata={"chat": chat}, dedupe=True)
    except Refused as refused:
        call("sendMessage", chat_id=chat, text=f"Not now: {refused}")
        return
    job = jobs.wait(sent.message_id, timeout=300, until="transcribed")
    if job.transcript:
        text = job.transcript["text"] or "(nobody speaks)"
    else:
        text = APOLOGIES.get((job.error or {}).get("code"), "Something went wrong; we look into it.")
    call("sendMessage", chat_id=chat, text=text)


def main():
    """Take voice messages for ever; many may wait for their text at once."""
    offset = 0
    with ThreadPoolExecutor(32) as answers:
        while True:
            try:
                updates = call("getUpdates", offset=offset, timeout=30)
            except OSError as error:
                print(f"Telegram cannot be reached: {error}")
                time.sleep(5)
                continue
            for update in updates:
                offset = update["update_id"] + 1
                if "voice" in update.get("message", {}):
                    answers.submit(answer, update["message"]).add_done_callback(Future.result)  # an error is logged


if __name__ == "__main__":
    main()
