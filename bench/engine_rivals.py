"""faster-whisper as everybody runs it, and as well as it can be tuned: what the engine is measured against."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faster_whisper import BatchedInferencePipeline, WhisperModel
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True, slots=True)
class Rival:
    """One configuration of faster-whisper: `clients` threads share it, each message decoded with `options`."""

    name: str
    model: Any
    clients: int
    options: dict[str, Any]

    def one(self, audio: np.ndarray, **options: Any) -> list[Any]:
        """Return the segments of one message."""
        segments, _ = self.model.transcribe(audio, **self.options, **options)
        return list(segments)

    def texts(self, audios: Sequence[np.ndarray], **options: Any) -> list[str]:
        """Return the text of each message, with all clients at work."""
        # numpy spreads the spectrogram over all cores, which takes them from the others: its own worst enemy here.
        blas_threads = 1 if self.clients > 1 else None
        with threadpool_limits(blas_threads, user_api="blas"), ThreadPoolExecutor(self.clients) as threads:
            found = threads.map(lambda audio: self.one(audio, **options), audios)
            return [" ".join(segment.text.strip() for segment in segments) for segments in found]


COMPUTE_TYPES = {"cpu": "int8", "cuda": "float16"}  # for all, the engine included


def as_it_comes(path: Path, device: str = "cpu") -> Rival:
    """`WhisperModel(path).transcribe(audio)`: beam 5, one message after another."""
    return Rival("as it comes", WhisperModel(str(path), device=device, compute_type=COMPUTE_TYPES[device]), 1, {})


def batched(path: Path, device: str = "cpu") -> Rival:
    """`BatchedInferencePipeline(WhisperModel(path)).transcribe(audio)`, its batches of 8 as they come."""
    model = WhisperModel(str(path), device=device, compute_type=COMPUTE_TYPES[device])
    return Rival("batched pipeline", BatchedInferencePipeline(model), 1, {})


def tuned(path: Path, cores: int) -> list[Rival]:
    """Its best configurations on a CPU: a worker of one thread a core, as many clients, and one thread of BLAS."""
    model = WhisperModel(str(path), device="cpu", compute_type="int8", num_workers=cores, cpu_threads=1)
    return [
        Rival("tuned: batched pipeline, a worker a core", BatchedInferencePipeline(model), cores, {}),
        Rival("tuned: a worker a core, beam 1", model, cores, {"beam_size": 1}),
    ]
