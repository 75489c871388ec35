"""Redis servers with faults: a real Valkey where the fault can be produced, else a minimal fake."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time

import redis

from pipeline.doctor import examination
from pipeline.doctor.machine import Machine as Examined
from pipeline.doctor.report import Report
from pipeline.doctor.target import Target

HEALTHY = {
    "redis_version": "7.2.4",
    "maxmemory_policy": "noeviction",
    "maxmemory": "0",
    "used_memory": "1000000",
    "aof_enabled": "1",
    "role": "master",
}


class Machine:
    """A machine that is healthy except for its Redis; the doctor checks it within this process."""

    def __init__(self, url, **variables):
        self.variables = {"REDIS_URL": url, **variables}
        self.python = "python3"
        self.close = contextlib.ExitStack()

    def doctor(self):
        """Return the doctor's exit code and the object that it prints."""
        machine = Examined(device="cpu", stage="backend", target=Target(self.python, None), variables=self.variables)
        with self.close:
            report = Report("cpu", (examination._examine("redis", machine),))
        return 0 if report.ok else 1, report.as_dict()


class Server:
    """A fake Redis on a free port.

    Args:
        info: lines of INFO that differ from a healthy server's.
        answers: replies by command, as bytes on the wire.
        delay: seconds before each reply.
        drip: seconds before each of its bytes.
        skew: seconds by which its clock is ahead.
        tls: the context of an encrypted server.
    """

    def __init__(self, *, info=None, answers=None, delay=0.0, drip=0.0, skew=0.0, tls=None):
        self._info = "".join(f"{name}:{value}\r\n" for name, value in {**HEALTHY, **(info or {})}.items())
        self._answers = answers or {}
        self._delay, self._drip, self._skew, self._tls = delay, drip, skew, tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self._socket.getsockname()[1]}/0"
        threading.Thread(target=self._serve, daemon=True).start()

    def machine(self, **variables):
        """Return a machine that uses this server, which is closed after the check."""
        made = Machine(self.url, **variables)
        made.close.callback(self._socket.close)
        return made

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            if self._tls:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            file = stack.enter_context(connection.makefile("rb"))
            while head := file.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int(file.readline()[1:])
                    words.append(file.read(size + 2)[:-2].decode())
                time.sleep(self._delay)
                answer = self._answer(words)
                if self._drip:
                    for byte in answer:
                        time.sleep(self._drip)
                        connection.sendall(bytes([byte]))
                else:
                    connection.sendall(answer)

    def _answer(self, words):
        name = words[0].upper()
        if name in self._answers:
            return self._answers[name]
        if name == "INFO":
            return b"$%d\r\n%s\r\n" % (len(self._info), self._info.encode())
        if name == "TIME":
            seconds = str(int(time.time() + self._skew)).encode()
            return b"*2\r\n$%d\r\n%s\r\n$1\r\n0\r\n" % (len(seconds), seconds)
        return {"PING": b"+PONG\r\n", "BLMOVE": b"$-1\r\n", "EVAL": b":0\r\n"}.get(name, b"+OK\r\n")


def self_signed(folder):
    """Return the context of a TLS server with a self-signed certificate, and the certificate's file."""
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", *options.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def silent():
    """Return a machine whose Redis accepts connections and never replies."""
    listener = socket.create_server(("127.0.0.1", 0))
    machine = Machine(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    machine.close.callback(listener.close)
    return machine


def valkey(folder, *, durable=True, **settings):
    """Return a machine with a real Valkey with these settings, and a client of it; both are closed after the check."""
    from cli import embedded

    stack = contextlib.ExitStack()
    url = stack.enter_context(embedded.valkey(folder, durable=durable))
    client = stack.enter_context(contextlib.closing(redis.Redis.from_url(url)))
    for name, value in settings.items():
        client.config_set(name.replace("_", "-"), value)
    machine = Machine(url)
    machine.close = stack
    return machine, client
