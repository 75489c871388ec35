"""Fake machines: stub libraries, a driver that shows any GPU, packages of any version, and their faults."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("library.c")
ARCHITECTURES = (53, 60, 61, 70, 75, 80, 86)  # of ctranslate2's wheels
PARTS = {
    8: ("libcudnn_ops_infer.so.8", "libcudnn_cnn_infer.so.8"),
    9: tuple(f"libcudnn_{part}.so.9" for part in ("graph", "ops", "engines_precompiled", "heuristic", "cnn")),
}
WHISPER = """
    import os, signal, sys

    FAULT = os.environ.get("FAKE_FAULT", "")
    __version__ = "4.8.5"

    class StorageView:
        from_array = staticmethod(lambda array: array)

    class Whisper:
        def __init__(self, folder, device, compute_type):
            self.device = "cpu" if FAULT == "cpu" else device
            self.compute_type = compute_type

        def encode(self, features, to_cpu):
            if FAULT == "abort":
                os.abort()
            if FAULT == "hang":
                signal.pause()
            if FAULT not in ("", "cpu"):
                raise RuntimeError(FAULT)

        def generate(self, *arguments, **options):
            pass

        def align(self, *arguments):
            pass

    class models:
        Whisper = Whisper
"""
SPECS = """
    class WhisperSpec:
        def __init__(self, *arguments):
            pass

        def __getattr__(self, name):
            value = WhisperSpec()
            setattr(self, name, value)
            return value

        def __iter__(self):
            return iter([WhisperSpec()])

        def __call__(self, *arguments):
            pass
"""


FASTER_WHISPER = """
    import ctranslate2

    class WhisperModel:
        def __init__(self, folder, device, compute_type):
            self.model = ctranslate2.models.Whisper(folder, device, compute_type)

        def transcribe(self, sound, **options):
            self.model.encode(sound, False)
            return [], None
"""


class Python(str):
    """Code: a value that is written without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class World:
    """A machine in a folder: `site` are its packages, `lib` is its LD_LIBRARY_PATH, `bin` its PATH before the real one.

    A new one is healthy: an A40, a driver for CUDA 12.8, cuBLAS 12 by pip, and a ctranslate2 that needs no cuDNN. The
    doctor runs from the folder `clone` beside it, if there is one.
    """

    def __init__(self, folder, *, cudnn=None, gpu=True, cublas=True, **build):
        self.folder = folder
        beside = folder.with_name("clone")
        self.clone = beside if beside.exists() else CLONE
        self.python = str(beside / ".venv" / "bin" / "python") if beside.exists() else sys.executable
        self.site, self.lib, self.bin = (folder / name for name in ("site", "lib", "bin"))
        for place in (self.site, self.lib, self.bin):
            place.mkdir(parents=True)
        self.pip_cublas = self.site / "nvidia" / "cublas" / "lib"
        self.pip_cudnn = self.site / "nvidia" / "cudnn" / "lib"
        self.variables = {"PYTHONPATH": str(self.site), "LD_LIBRARY_PATH": str(self.lib), "FAKE_DRIVER": "12080"}
        self.options = ["--device", "cuda"]
        self.servers = []  # closed after the doctor has run
        self.build(cudnn=cudnn, **build)
        if gpu:
            self.compile(self.lib / "libcuda.so.1", "-DDRIVER")
        if cublas:
            self.cublas(self.pip_cublas)
        if cudnn:
            self.cudnn(self.pip_cudnn, cudnn)

    def build(self, *, version="4.8.5", cudnn=None, cublas=12, isa=(8, 7), codes=ARCHITECTURES, ptx=86, flags=()):
        """Install a ctranslate2."""
        package = self.site / "ctranslate2"
        (package / "specs").mkdir(parents=True)
        (package / "__init__.py").write_text(textwrap.dedent(WHISPER))
        (package / "version.py").write_text(f'__version__ = "{version}"\n')
        (package / "specs" / "__init__.py").touch()
        (package / "specs" / "whisper_spec.py").write_text(textwrap.dedent(SPECS))
        self.distribution("ctranslate2", version)
        libs = self.site / "ctranslate2.libs"
        libs.mkdir()
        self.core = libs / f"libctranslate2-a7a60d30.so.{version}"
        options = list(flags)
        if cublas:
            names = [f"libcublas.so.{cublas}", "libcuda.so.1"] + ([f"libcudnn.so.{cudnn}"] if cudnn else [])
            code = fatbin(codes, ptx, isa)
            blob = self.folder / f"fatbin-{hashlib.sha256(code).hexdigest()[:8]}"
            blob.write_bytes(code)
            separator = chr(92) + "0"
            options += [f'-DNAMES="{separator.join(names)}"']
            options += [f'-DCUBLAS="libcublas.so.{cublas}"', f'-DFATBIN="{blob}"']
        self.compile(self.core, *options)
        if cudnn:
            self.compile(libs / f"libcudnn-74a4c495.so.{cudnn}.1.0")

    def canary(self):
        """Run the configured model too, on the fake GPU with a fake faster-whisper."""
        package = self.site / "faster_whisper"
        package.mkdir()
        (package / "__init__.py").write_text(textwrap.dedent(FASTER_WHISPER))
        self.options.append("--canary")
        return self

    def remove(self, package):
        """Uninstall a package."""
        for folder in self.site.glob(f"{package}*"):
            shutil.rmtree(folder)

    def distribution(self, name, version, *requires):
        """Add the metadata of an installed package."""
        folder = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (folder / "METADATA").write_text("\n".join([*lines, *[f"Requires-Dist: {line}" for line in requires], ""]))

    def cublas(self, folder, major=12, *flags):
        """Install both libraries of cuBLAS."""
        self.compile(folder / f"libcublasLt.so.{major}", "-DIS_LT")
        needs = [f"-L{folder}", "-Wl,--no-as-needed", f"-l:libcublasLt.so.{major}"]
        self.compile(folder / f"libcublas.so.{major}", "-DIS_CUBLAS", *flags, *needs)

    def cudnn(self, folder, major, version=None, *flags):
        """Install all parts of cuDNN that ctranslate2 needs."""
        for name in PARTS[major]:
            self.cudnn_part(folder / name, version, *flags)

    def cudnn_part(self, path, version=None, *flags):
        """Install a part of cuDNN as in NVIDIA's packages: the first reports the version, all others need the first."""
        major = int(path.suffix[1:])
        number = version or {8: 8907, 9: 90100}[major]
        first = PARTS[major][0]
        part = path.name.partition(".")[0].partition("_")[2]
        options = [f"-DCHECK=cudnn{part.title().replace('_', '')}VersionCheck", f"-DBUILT={number}"]
        needs = ["-Wl,--no-as-needed", f"-L{path.parent}", f"-l:{first}"]
        options += [f"-DVERSION={number}"] if path.name == first else needs
        return self.compile(path, *options, *flags)

    def compile(self, path, *options):
        """Compile a library."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        key = " ".join([path.name, *options]).replace(str(self.folder), "")
        made = self.folder.parent / "made" / hashlib.sha256(key.encode()).hexdigest()
        if not made.exists():
            made.parent.mkdir(exist_ok=True)
            scratch = made.with_name(f"{made.name}.{threading.get_ident()}")
            command = ["cc", "-shared", "-fPIC", "-O0", f"-Wl,-soname,{path.name}", "-o", scratch, SOURCE, *options]
            subprocess.run([*command, "-ldl"], check=True, capture_output=True)
            scratch.replace(made)
        shutil.copy(made, path)
        return path

    def program(self, name, text):
        """Put a shell script on PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def smi(self, *cards, apps=(), rows=()):
        """Put an nvidia-smi on PATH that prints these lines: cards, processes, remapped rows of each card.

        CUDA_VISIBLE_DEVICES does not limit the cards, as with the real one.
        """
        names = [f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" for text in map(uuid, range(9))]
        cards, rows = ([f"{name}, {line}" for name, line in zip(names, lines, strict=False)] for lines in (cards, rows))
        said = {"compute-apps": apps, "remapped-rows": rows, "gpu=": cards}
        cases = " ".join(
            f"""*{kind}*) printf '%s\\n' {" ".join(f"'{line}'" for line in lines) or "''"};;"""
            for kind, lines in said.items()
        )
        return self.program("nvidia-smi", f'case "$1" in {cases} esac')

    def patch(self, module, **values):
        """Replace constants of the doctor: shorter time limits, and paths of files that only a kernel creates."""
        lines = [
            "import importlib, sys",
            f"sys.path.append({str(self.clone)!r})",
            f"patched = importlib.import_module({module!r})",
        ]
        lines += [f"patched.{name} = {value!r}" for name, value in values.items()]
        with (self.site / "sitecustomize.py").open("a") as file:
            file.write("\n".join([*lines, ""]))
        return self

    def only(self, *checks):
        """Run only these checks."""
        for check in checks:
            self.options += ["--only", check]
        return self

    def begin(self):
        """Start the doctor."""
        inherited = {name: value for name, value in os.environ.items() if name in ("HOME", "PATH", "TMPDIR")}
        path = f"{self.bin}{os.pathsep}{inherited['PATH']}"
        return subprocess.Popen(
            [self.python, "-m", "pipeline", "doctor", "--json", "--python", self.python, *self.options],
            cwd=self.clone,
            env={**inherited, "PATH": path, "LANG": "C.UTF-8", **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def doctor(self):
        """Return the doctor's exit code and the object that it prints."""
        process = self.begin()
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            for server in self.servers:
                server.close()
        assert process.returncode in (0, 1), err
        return process.returncode, json.loads(out)


def uuid(card):
    """Return the stub driver's name of a card, in hexadecimal."""
    return bytes([16 + card]).hex() * 16


def fatbin(codes, ptx, isa):
    """Return the section that nvcc writes: a container whose entries are headers alone."""
    entries = b""
    for kind, architecture, (major, minor) in [(2, code, (1, 7)) for code in codes] + ([(1, ptx, isa)] if ptx else []):
        entry = struct.pack("<HHIQQHHI", kind, 0x101, 64, 8, 0, minor, major, architecture)
        entries += entry.ljust(64, b"\0") + bytes(8)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def truncate(path, part=0.5):
    """Truncate a file."""
    os.truncate(path, int(path.stat().st_size * part))


def foreign(path):
    """Change a library to one for another processor."""
    data = bytearray(path.read_bytes())
    data[18:20] = struct.pack("<H", 40)  # 32-bit ARM
    path.write_bytes(data)


def copy_model(source, folder):
    """Copy a model's weights and link its other files."""
    folder.mkdir()
    for file in source.iterdir():
        if file.name == "model.bin":
            shutil.copy(file, folder)
        elif file.is_file():
            (folder / file.name).symlink_to(file)
    return folder
