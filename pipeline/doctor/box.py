"""The machine under examination: what every check may look at, and the commands that suit it."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

from config.environment import ROOT
from pipeline.doctor import build, devices, elf, ladder, libraries, shell, target

DEVICES = ("auto", "cuda", "cpu")

# Packages of the package index by what they bring; the CUDA 12 series that ctranslate2 is built for.
_PIP = {
    ("cublas", 11): "nvidia-cublas-cu11",
    ("cublas", 12): "nvidia-cublas-cu12",
    ("cublas", 13): "nvidia-cublas",
    ("cudnn", 8): "nvidia-cudnn-cu{cublas}==8.9.7.29",
    ("cudnn", 9): "nvidia-cudnn-cu{cublas}>=9.1,<10",
}


@dataclass
class Box:
    """One machine and one question. What is costly to learn is learnt once, by whoever asks first.

    Args:
        device: `auto`, `cuda` or `cpu`: what the workers are to run on.
        stage: the only stage to be judged; None: all.
        target: the workers' Python.
        variables: the effective environment, `.env` included.
        canary: whether to run the configured model, too.
    """

    device: str
    stage: Optional[str]
    target: target.Target
    variables: Dict[str, str]
    canary: bool = False
    _lock: Any = field(default_factory=threading.RLock)
    _locks: Dict[str, Any] = field(default_factory=dict)
    _known: Dict[str, object] = field(default_factory=dict)

    @property
    def driver(self) -> devices.Driver:
        """The driver's answers, with a context on each GPU."""
        return cast("devices.Driver", self.once("driver", lambda: devices.ask(context=True)))

    @property
    def gpus(self) -> Tuple[devices.Gpu, ...]:
        """The visible GPUs that the workers are to use: those of `WHISPER_GPUS`."""
        wish = self.value("WHISPER_GPUS", "all")
        chosen = {int(part) for part in wish.split(",") if part.strip().isdecimal()}
        return tuple(gpu for gpu in self.driver.gpus if wish == "all" or gpu.index in chosen)

    @property
    def folder(self) -> Optional[str]:
        """Where the workers' ctranslate2 is; None: nowhere."""
        return build.locate(self.target.paths)

    @property
    def build(self) -> Optional[build.Build]:
        """The workers' ctranslate2; None where it is missing or damaged, of which check 2 speaks."""
        found = self.once("build", self._read)
        return found if isinstance(found, build.Build) else None

    @property
    def damage(self) -> Optional[str]:
        """What is wrong with the native library of ctranslate2, where it is there and broken."""
        found = self.once("build", self._read)
        return found if isinstance(found, str) else None

    @property
    def libraries(self) -> List[libraries.Found]:
        """What the build wants, with the files that there are."""
        wanted = self.build
        if wanted is None:
            return []
        return cast("List[libraries.Found]", self.once("libraries", lambda: libraries.find(wanted, self.target.paths)))

    def value(self, name: str, default: str = "") -> str:
        """Return an environment variable."""
        return self.variables.get(name) or default

    def pip(self, *packages: str) -> str:
        """Return the command that installs packages where the workers find them."""
        return self._with_python("-m", "pip", "install", *packages)

    def requirements(self) -> str:
        """Return the command that installs all that the stages want, pinned."""
        return self.install if self._apart else self.pip("-r", os.path.join(str(ROOT), "requirements.txt"))

    def pinned(self, *packages: str) -> str:
        """Return the command that installs packages that only `requirements-dev.txt` pins, and not all of that."""
        script, file = (os.path.join(str(ROOT), name) for name in ("scripts/install_pinned.sh", "requirements-dev.txt"))
        make = f"{self.install} && " if self._apart else ""
        return make + shell.command("sh", script, self._python, file, *packages)

    @property
    def install(self) -> str:
        """The command that makes the virtual environment with all that the stages want."""
        if shutil.which("make"):
            return shell.command("make", "-C", ROOT, "install")
        venv = os.path.join(str(ROOT), ".venv")
        make = shell.command("sh", os.path.join(str(ROOT), "scripts", "make_venv.sh"), venv)
        requirements = os.path.join(str(ROOT), "requirements.txt")
        python = os.path.join(venv, "bin", "python")
        return f"{make} && {shell.command(python, '-m', 'pip', 'install', '-r', requirements)}"

    @property
    def _apart(self) -> bool:
        """Whether what is installed has to go into a virtual environment that is yet to be made."""
        return self.target.managed and not self.target.virtual

    @property
    def _python(self) -> str:
        return os.path.join(str(ROOT), ".venv", "bin", "python") if self._apart else self.target.python

    def _with_python(self, *arguments: str) -> str:
        make = f"{self.install} && " if self._apart else ""
        return make + shell.command(self._python, *arguments)

    def cuda(self, kind: str) -> str:
        """Return the command that installs `cublas` or `cudnn` as the installed build wants it."""
        wanted = self.build
        if wanted is None:
            return self.requirements()
        major = wanted.cublas if kind == "cublas" else wanted.cudnn
        package = _PIP.get((kind, major or 0), f"nvidia-{kind}").format(cublas=wanted.cublas)
        if kind == "cublas" and "-cu" in package:
            release = wanted.cuda if wanted.cuda[0] == major else (major or 0, 0)
            package += f">={release[0]}.{release[1]},<{release[0] + 1}"
        return self.pip("--force-reinstall", "--no-deps", package) if self._has(kind) else self.pip(package)

    def apt(self, *packages: str) -> str:
        """Return the command that installs programs of the system."""
        if not shutil.which("apt-get") and shutil.which("dnf"):
            return shell.command("dnf", "install", "-y", *packages)
        prefix = "" if os.geteuid() == 0 else "sudo "
        return f"{prefix}apt-get update && {prefix}{shell.command('apt-get', 'install', '-y', *packages)}"

    def pipeline(self, *arguments: str) -> str:
        """Return a command of Voicemill's own, run by the workers' Python."""
        return shell.command(self.target.python, "-m", "pipeline", *arguments)

    def _has(self, kind: str) -> bool:
        return any(
            candidate.origin == "pip"
            for library in self.libraries
            if kind in library.name
            for candidate in library.candidates
        )

    def _read(self) -> object:
        if self.folder is None:
            ladder.tell("static reading", "no ctranslate2 in the import paths of %s", self.target.python)
            return None
        try:
            places: List[str] = [folder for folder, _ in libraries.folders(self.target.paths)]
            found = build.read(self.folder, [*places, "/usr/local/lib"])
        except elf.Damaged as error:
            return error.kind
        except OSError as error:
            return str(error)
        if found is None:
            return "missing"
        wants = ", ".join(found.wanted) or "no CUDA library"
        ladder.tell("static reading", "%s wants %s", found.core.path, wants)
        return found

    def once(self, name: str, learn: Callable[[], Any]) -> Any:
        """Return what was learnt under a name, learning it at the first time; others who want it wait."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:
            if name not in self._known:
                self._known[name] = learn()
            return self._known[name]


def gpu_memory(gpus: Sequence[devices.Gpu]) -> Tuple[str, Optional[int]]:
    """Return name and free bytes of the GPU with most free memory."""
    free = [(gpu.memory_free or 0, gpu.name) for gpu in gpus if gpu.memory_free is not None]
    return (max(free)[1], max(free)[0]) if free else ("", None)
