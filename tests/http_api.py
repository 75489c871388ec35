"""A real door for tests: the application under uvicorn in a thread of this process, and how to ask it."""

import json
import socket
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from web import keys
from web.protocol import Protocol

KEY, ENTRY = keys.generate("tests")
PATIENCE = 60  # seconds until an answer that should come counts as not coming


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json["error"]["code"]


class Door:
    """The address of a door, and its key."""

    def __init__(self, port, app):
        self.port, self.app, self.url = port, app, f"http://127.0.0.1:{port}"

    def ask(self, path, *, method=None, key=KEY, body=None, **headers):
        """Send a request; a body of other than bytes goes as JSON."""
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"} | headers
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def upload(self, path, data, **fields):
        """Send a form with a file."""
        body = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        )
        body += (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.ogg"\r\n\r\n' + data + b"\r\n--x--\r\n"
        )
        return self.ask(path, body=body, **{"Content-Type": "multipart/form-data; boundary=x"})


@contextmanager
def served(app):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=Protocol, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            app.state.stopping.set()
            server.should_exit = True
            thread.join()
