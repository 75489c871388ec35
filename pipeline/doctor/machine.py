"""The machine that is checked: what the checks share about it, and the commands that fix it."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

from config.environment import ROOT
from pipeline.doctor import build, devices, elf, libraries, shell, steps, target

DEVICES = ("auto", "cuda", "cpu")

# PyPI packages by library and major version.
_PIP = {
    ("cublas", 11): "nvidia-cublas-cu11",
    ("cublas", 12): "nvidia-cublas-cu12",
    ("cublas", 13): "nvidia-cublas",
    ("cudnn", 8): "nvidia-cudnn-cu{cublas}==8.9.7.29",
    ("cudnn", 9): "nvidia-cudnn-cu{cublas}>=9.1,<10",
}


@dataclass
class Machine:
    """One machine and what to check on it. Expensive facts are determined once, when a check first needs them.

    Args:
        device: `auto`, `cuda` or `cpu`: the workers' device.
        stage: the only stage to check; None: all.
        target: the workers' Python.
        variables: the effective environment, `.env` included.
        canary: whether to also run the configured model.
        root: the folder of the clone.
        query_driver: `devices.query`, or what replaces it in a test.
    """

    device: str
    stage: Optional[str]
    target: target.Target
    variables: Dict[str, str]
    canary: bool = False
    root: str = str(ROOT)
    query_driver: Callable[..., devices.Driver] = devices.query
    _lock: Any = field(default_factory=threading.RLock)
    _locks: Dict[str, Any] = field(default_factory=dict)
    _known: Dict[str, object] = field(default_factory=dict)

    @property
    def driver(self) -> devices.Driver:
        """The driver's state, queried with a context on each GPU."""
        return cast("devices.Driver", self.once("driver", lambda: self.query_driver(context=True)))

    @property
    def gpus(self) -> Tuple[devices.Gpu, ...]:
        """The visible GPUs that `WHISPER_GPUS` selects."""
        wish = self.value("WHISPER_GPUS", "all")
        chosen = {int(part) for part in wish.split(",") if part.strip().isdecimal()}
        return tuple(gpu for gpu in self.driver.gpus if wish == "all" or gpu.index in chosen)

    @property
    def folder(self) -> Optional[str]:
        """The folder of the workers' ctranslate2; None if it is not installed."""
        return build.locate(self.target.paths)

    @property
    def build(self) -> Optional[build.Build]:
        """The workers' ctranslate2; None if it is missing or damaged, which check 2 reports."""
        found = self.once("build", self._read)
        return found if isinstance(found, build.Build) else None

    @property
    def damage(self) -> Optional[str]:
        """What is wrong with the native library of an installed ctranslate2; None if it is intact."""
        found = self.once("build", self._read)
        return found if isinstance(found, str) else None

    @property
    def libraries(self) -> List[libraries.LibrarySearch]:
        """The libraries that the build needs, with the files found for each."""
        wanted = self.build
        if wanted is None:
            return []
        return cast(
            "List[libraries.LibrarySearch]", self.once("libraries", lambda: libraries.find(wanted, self.target.paths))
        )

    def value(self, name: str, default: str = "") -> str:
        """Return an environment variable, or the default if it is unset or empty."""
        return self.variables.get(name) or default

    def pip(self, *packages: str) -> str:
        """Return the command that installs packages into the workers' Python."""
        return self._with_python("-m", "pip", "install", *packages)

    def requirements(self) -> str:
        """Return the command that installs the pinned requirements of all stages."""
        return self.install if self._apart else self.pip("-r", os.path.join(self.root, "requirements.txt"))

    def pinned(self, *packages: str) -> str:
        """Return the command that installs only these packages, at the versions that `requirements-dev.txt` pins."""
        script, file = (os.path.join(self.root, name) for name in ("scripts/install_pinned.sh", "requirements-dev.txt"))
        make = f"{self.install} && " if self._apart else ""
        return make + shell.command("sh", script, self._python, file, *packages)

    @property
    def install(self) -> str:
        """The command that creates the virtual environment with the requirements of all stages."""
        if shutil.which("make"):
            return shell.command("make", "-C", self.root, "install")
        venv = os.path.join(self.root, ".venv")
        make = shell.command("sh", os.path.join(self.root, "scripts", "make_venv.sh"), venv)
        requirements = os.path.join(self.root, "requirements.txt")
        python = os.path.join(venv, "bin", "python")
        return f"{make} && {shell.command(python, '-m', 'pip', 'install', '-r', requirements)}"

    @property
    def _apart(self) -> bool:
        """Whether packages have to go into a virtual environment that does not exist yet."""
        return self.target.managed and not self.target.virtual

    @property
    def _python(self) -> str:
        return os.path.join(self.root, ".venv", "bin", "python") if self._apart else self.target.python

    def _with_python(self, *arguments: str) -> str:
        make = f"{self.install} && " if self._apart else ""
        return make + shell.command(self._python, *arguments)

    def cuda(self, kind: str) -> str:
        """Return the command that installs the `cublas` or `cudnn` that the installed build needs."""
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
        """Return the command that installs system packages."""
        if not shutil.which("apt-get") and shutil.which("dnf"):
            return shell.command("dnf", "install", "-y", *packages)
        prefix = "" if os.geteuid() == 0 else "sudo "
        return f"{prefix}apt-get update && {prefix}{shell.command('apt-get', 'install', '-y', *packages)}"

    def pipeline(self, *arguments: str) -> str:
        """Return the command `python -m pipeline ...` with the workers' Python."""
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
            steps.log("static reading", "ctranslate2 not found in the import paths of %s", self.target.python)
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
        needed = ", ".join(found.wanted) or "no CUDA library"
        steps.log("static reading", "%s needs %s", found.core.path, needed)
        return found

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the value of this name, computed at the first call; other threads that need it wait."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:
            if name not in self._known:
                self._known[name] = compute()
            return self._known[name]


def gpu_memory(gpus: Sequence[devices.Gpu]) -> Tuple[str, Optional[int]]:
    """Return the name and the free bytes of the GPU with the most free memory."""
    free = [(gpu.memory_free or 0, gpu.name) for gpu in gpus if gpu.memory_free is not None]
    return (max(free)[1], max(free)[0]) if free else ("", None)
