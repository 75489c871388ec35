"""What the tests of the wheel share: environments to install it into, and projects that run in them."""

import os
import socket
import subprocess
import sys
import time
import venv
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

PROJECTS = Path(__file__).parent / "projects"
WHEELHOUSE = Path(sys.prefix) / "wheelhouse"  # filled by `make .venv/.dev`
START_TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @classmethod
    def make(cls, folder, *packages):
        """Make one with these packages, from the wheelhouse."""
        venv.create(folder, with_pip=False, symlinks=True)
        made = cls(folder)
        pip = [sys.executable, "-m", "pip", "--isolated", "--python", made.python, "install", "--quiet"]
        ran = subprocess.run(
            [*pip, "--no-index", "--find-links", WHEELHOUSE, "--no-compile", *map(str, packages)],
            env={"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return made

    @property
    def python(self):
        return str(self.folder / "bin" / "python")

    def run(self, *command, cwd, **variables):
        """Run a program of this environment, or its Python with arguments that begin with a dash."""
        program = (
            [self.python, *command]
            if command[0].startswith("-")
            else [str(self.folder / "bin" / command[0]), *command[1:]]
        )
        environment = {"PATH": os.environ["PATH"], **variables}
        return subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)

    @contextmanager
    def serve(self, *command, cwd, port, **variables):
        """Run a server in a folder of its own until the block ends; yield its address."""
        address = f"http://127.0.0.1:{port}"
        environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **variables}
        with subprocess.Popen(
            [self.python, *command],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                _await(f"{address}/own", process)
                yield address
            finally:
                process.kill()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _await(address, process):
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        with suppress(URLError, ConnectionError, TimeoutError):
            urlopen(address, timeout=10).close()
            return
        time.sleep(0.1)  # nothing announces the moment at which it listens
    raise AssertionError(f"{address} does not answer within {START_TIMEOUT} s")
