"""A Telegram bot that answers every voice message with its text.

    TELEGRAM_TOKEN=… REDIS_URL=redis://… python bot.py

It needs the package voicemill; no model and no FFmpeg.
"""

import json
import os
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor

from voicemill import Client, Refused

API = os.environ.get("TELEGRAM_API", "https://api.telegram.org")
TOKEN = os.environ["TELEGRAM_TOKEN"]
CLIENT = Client()
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
    try:
        with urllib.request.urlopen(f"{API}/file/bot{TOKEN}/{path}", timeout=60) as voice:
            job = CLIENT.send_file(voice, metadata={"chat": chat}, dedupe=True)
    except Refused as refused:
        call("sendMessage", chat_id=chat, text=f"Not now: {refused}")
        return
    job = CLIENT.wait(job.id, timeout=300, until="transcribed")
    if job.transcript:
        text = job.transcript.text or "(nobody speaks)"
    else:
        text = APOLOGIES.get(job.error.code if job.error else "", "Something went wrong. We are looking into it.")
    call("sendMessage", chat_id=chat, text=text)


def main():
    """Receive voice messages for ever; many may wait for their text at once."""
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
