"""As much of Telegram's Bot API as the tutorial's bot calls, on loopback, for those who have no bot yet.

    python pretend_telegram.py VOICE [VOICE ...]

Each file arrives as a voice message of a chat of its own; what the bot answers is printed.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VOICES = [Path(name) for name in sys.argv[1:]]


class Telegram(BaseHTTPRequestHandler):
    """Answers getUpdates, getFile, sendMessage and the download of a file."""

    def do_POST(self):
        """Call a method."""
        parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = self.path.rpartition("/")[2]
        result = {}
        if method == "getUpdates":
            result = [
                {"update_id": number, "message": {"chat": {"id": number}, "voice": {"file_id": str(number)}}}
                for number in range(parameters["offset"], len(VOICES))
            ]
            if not result:
                threading.Event().wait(min(parameters["timeout"], 2))  # a long poll in which nothing comes
        elif method == "getFile":
            result = {"file_path": parameters["file_id"]}
        elif method == "sendMessage":
            print(f"to chat {parameters['chat_id']}: {parameters['text']}", flush=True)
        self.reply(json.dumps({"ok": True, "result": result}).encode())

    def do_GET(self):
        """Download a file."""
        self.reply(VOICES[int(self.path.rpartition("/")[2])].read_bytes())

    def reply(self, body):
        """Send a body."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


with ThreadingHTTPServer(("127.0.0.1", 0), Telegram) as server:
    print(f"export TELEGRAM_API=http://127.0.0.1:{server.server_port} TELEGRAM_TOKEN=pretend", flush=True)
    server.serve_forever()
