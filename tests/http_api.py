"""A real server for tests: the application under uvicorn in a thread of this process, and how to send it requests."""

import json
import socket
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from web import auth
from web.protocol import Protocol

KEY, ENTRY = auth.generate("tests")
TIMEOUT = 60  # seconds without an answer after which a test fails


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json["error"]["code"]


class HttpApi:
    """The address of a server."""

    def __init__(self, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def request(self, path, *, method=None, key=KEY, body=None, **headers):
        """Send a request; a body that isn't bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"} | headers
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
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
        return self.request(path, body=body, **{"Content-Type": "multipart/form-data; boundary=x"})

    def events(self, job_id):
        """Open a job's stream of events."""
        headers = {"Authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(f"{self.url}/jobs/{job_id}/events", headers=headers)
        return urllib.request.urlopen(request, timeout=TIMEOUT)


@contextmanager
def served(app, protocol=Protocol):
    """Serve an application on a free port of loopback, which is yielded."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=protocol, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            app.state.voicemill.stopping.set()
            server.should_exit = True
            thread.join()
