"""`web`: the door for those who have no Python. It only enqueues and reads; the stages do the work."""

from __future__ import annotations

import argparse
import errno
import gc
import logging as standard
import os
import socket
import sys
from types import FrameType

import structlog
import uvicorn

from config import logging, settings
from web import keys
from web.app import create_app
from web.protocol import Protocol

FAILED, USAGE = 1, 2  # exit codes
HIGHEST = 65535  # port
SWITCH = 0.0002  # seconds after which a thread that talks to Redis makes way for the loop; Python's own 0.005 add up

log = structlog.get_logger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--host", metavar="ADDRESS", help="listen on this address (HOST)")
    parser.add_argument("--port", metavar="PORT", type=_port, help="listen on this port; 0: any free one (PORT)")
    parser.add_argument("--new-key", metavar="NAME", help="print a new key and its entry for API_KEYS, and end")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says stop.

    1 where somebody listens at that address, 2 where it is not ours or the settings would let strangers in.
    """
    if arguments.new_key is not None:
        return _new_key(arguments.new_key)
    chosen = settings.get()
    host = chosen.host if arguments.host is None else arguments.host
    port = chosen.port if arguments.port is None else arguments.port
    os.environ.setdefault("VOICEMILL_CLIENT_NAME", "voicemill-web")
    try:
        app = create_app(chosen)
    except ValueError as error:
        print(f"API_KEYS: {error}", file=sys.stderr)
        return USAGE
    if app.state.open and host not in keys.LOOPBACK:
        print(
            f"without API_KEYS the door opens on loopback alone, not on {host}: "
            "make a key with `python -m pipeline web --new-key NAME`",
            file=sys.stderr,
        )
        return USAGE
    store.redis.ping()
    logging.configure(chosen.log_level, chosen.log_format)
    standard.getLogger("uvicorn").setLevel(standard.WARNING)
    standard.getLogger("uvicorn.error").addFilter(lambda record: not isinstance(record.msg, OSError))  # told below
    sys.setswitchinterval(SWITCH)
    gc.freeze()  # what is there by now stays: to look through it again and again would hold everybody up
    server = _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Protocol,
            access_log=False,  # ours has no queries in it, and says more
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(chosen.shutdown_timeout)),
        )
    )
    try:
        server.run()
    except SystemExit as ended:
        refused = ended.__context__
        if not isinstance(refused, OSError):
            raise
        print(
            f"the door cannot open at {host}, port {port}: {refused.strerror}. "
            "Stop what listens there, or choose another HOST or PORT.",
            file=sys.stderr,
        )
        return FAILED if refused.errno == errno.EADDRINUSE else USAGE
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > HIGHEST:
        raise argparse.ArgumentTypeError(f"takes 0 to {HIGHEST}, not {text!r}")
    return int(text)


class _Server(uvicorn.Server):
    """A server that says where it is, and tells its application at once when it is to stop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        places = [listener.getsockname() for server in self.servers for listener in server.sockets]
        log.info("The door is open", address=[f"{place[0]}:{place[1]}" for place in places])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Take a signal: what is told live comes to its end, and the rest is waited for; a second one ends all.

        The base class would end the process by the signal in the end, as if it had not been heeded.
        """
        self.force_exit = self.should_exit
        self.should_exit = True
        self.config.app.state.stopping.set()  # type: ignore[union-attr]


def _new_key(name: str) -> int:
    try:
        key, entry = keys.generate(name)
    except ValueError as error:
        print(f"--new-key {name!r}: {error}", file=sys.stderr)
        return USAGE
    print(f"key, for the client; shown this once:\n{key}\nits entry in API_KEYS, for the door:\n{entry}")
    return 0
