"""`web`: serve the HTTP API and the dashboard. The server sends jobs and reads results; the workers do the work."""

from __future__ import annotations

import argparse
import errno
import gc
import logging as standard
import os
import socket
import sys
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn

from config import logging, settings
from voicemill import Client
from web import auth
from web.app import create_app
from web.protocol import Protocol
from web.state import State

FAILED, USAGE = 1, 2  # exit codes
HIGHEST = 65535  # port
SWITCH = 0.0002  # seconds until a thread that talks to Redis yields to the event loop; Python's default is 0.005

log = structlog.get_logger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--host", metavar="ADDRESS", help="listen on this address (HOST)")
    parser.add_argument("--port", metavar="PORT", type=_port, help="listen on this port; 0: any free one (PORT)")
    parser.add_argument("--new-key", metavar="NAME", help="print a new key and its entry for API_KEYS, then exit")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal stops the server, and return the exit code.

    Returns:
        1 if another program listens at the address; 2 if the address or a setting is invalid, or if the server would
        be open to other machines without keys.
    """
    if arguments.new_key is not None:
        return _new_key(arguments.new_key)
    chosen = settings.get()
    host = chosen.host if arguments.host is None else arguments.host
    port = chosen.port if arguments.port is None else arguments.port
    os.environ.setdefault("VOICEMILL_CLIENT_NAME", "voicemill-web")
    with Client() as client:
        try:
            app = create_app(chosen, client)
        except ValueError as error:
            print(f"API_KEYS: {error}", file=sys.stderr)
            return USAGE
        state: State = app.state.voicemill
        if state.open and host not in auth.LOOPBACK:
            print(
                f"without API_KEYS the server listens on loopback only, not on {host}: "
                "create a key with `voicemill web --new-key NAME`",
                file=sys.stderr,
            )
            return USAGE
        client.store.redis.ping()
        logging.configure(chosen.log_level, chosen.log_format)
        standard.getLogger("uvicorn").setLevel(standard.WARNING)
        # That an address cannot be used is printed by `_serve`.
        standard.getLogger("uvicorn.error").addFilter(lambda record: not isinstance(record.msg, OSError))
        sys.setswitchinterval(SWITCH)
        gc.freeze()  # what is imported stays: collections that traverse it again would delay every request
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Protocol,
            access_log=False,  # ours leaves queries out and has more fields
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(chosen.shutdown_timeout)),
        )
        return _serve(_ApiServer(config, state.stopping.set), host, port)


def _serve(server: uvicorn.Server, host: str, port: int) -> int:
    try:
        server.run()
    except SystemExit as ended:
        refused = ended.__context__
        if not isinstance(refused, OSError):
            raise
        print(
            f"cannot listen on {host}, port {port}: {refused.strerror}. "
            "Stop the program that listens there, or choose another HOST or PORT.",
            file=sys.stderr,
        )
        return FAILED if refused.errno == errno.EADDRINUSE else USAGE
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > HIGHEST:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {HIGHEST}, not {text!r}")
    return int(text)


class _ApiServer(uvicorn.Server):
    """A server that logs its address, and calls `stop` as soon as it is to shut down."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        places = [listener.getsockname() for server in self.servers for listener in server.sockets]
        log.info("HTTP API started", address=[f"{place[0]}:{place[1]}" for place in places])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Shut down: end event streams and wait for other requests. A second signal ends those, too.

        The base class re-raises the signal in the end, so that the process would die by it.
        """
        self.force_exit = self.should_exit
        self.should_exit = True
        self._stop()


def _new_key(name: str) -> int:
    try:
        key, entry = auth.generate(name)
    except ValueError as error:
        print(f"--new-key {name!r}: {error}", file=sys.stderr)
        return USAGE
    print(f"key, for the client; shown only once:\n{key}\nits entry in API_KEYS, for the server:\n{entry}")
    return 0
