"""Whisper on CTranslate2 and faster-whisper: the default backend.

The package holds all that is Whisper's own: where its models come from (`models`), how a batch is decoded
(`recognizer`, `passes`), when a result is rejected (`quality`, `hallucinations`) and where its words lie in time
(`alignment`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Self

from config.bounds import ENCODER, check_encoder_window
from pipeline.transcribe.backends.base import Backend
from pipeline.transcribe.backends.whisper import models
from pipeline.transcribe.failures import EngineError

if TYPE_CHECKING:
    from pipeline.transcribe.backends.base import DecodingSettings, Recognizer, VoiceDetector


@dataclass(frozen=True, slots=True)
class Whisper(Backend):
    """Whisper models in CTranslate2's format. The fields are those of `DecodingSettings`."""

    beam_size: int = 5
    encoder_window: str = "auto"

    @classmethod
    def create(cls, model: str, settings: DecodingSettings) -> Self:
        """Return the backend for any Whisper model; raises EngineError for an invalid encoder window."""
        del model
        try:
            check_encoder_window(settings.encoder_window)
        except ValueError as error:
            raise EngineError(f"encoder_window is {settings.encoder_window!r}: it {error}.") from None
        return cls(settings.beam_size, settings.encoder_window)

    def resolve(self, model: str, model_dir: str | Path | None) -> Path:
        """Return the model's folder: a folder as given, a bundled model, or one from the model hub."""
        return models.resolve(model, model_dir)

    def weights_size(self, path: Path) -> int:
        """Return the size of `model.bin` (bytes)."""
        return (path / "model.bin").stat().st_size

    def library_version(self) -> str:
        """Return CTranslate2's version."""
        return f"ctranslate2 {version('ctranslate2')}"

    def voice_detector(self) -> VoiceDetector:
        """Return Silero's detector with stretches that fit into Whisper's encoder."""
        from pipeline.transcribe.backends import silero  # noqa: PLC0415 - imports faster_whisper

        return silero.detector(ENCODER)

    def preload(self, device: str) -> tuple[str, ...]:
        """Load cuBLAS by full path, so that CTranslate2 finds it wherever it is installed."""
        if device != "cuda":
            return ()
        from pipeline.doctor import libraries  # noqa: PLC0415 - only where there is a GPU

        return tuple(libraries.preload())

    def load(self, path: Path, device: str, compute_type: str, threads: int) -> Recognizer:
        """Load the model; the first call imports CTranslate2."""
        if _has_avx512():  # CTranslate2 takes AVX2 on AMD's processors; with AVX-512 the encoder gains a seventh
            os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")
        # Imported here because CTranslate2 reads its environment and finds its libraries when it is imported.
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        from pipeline.transcribe.backends.whisper.recognizer import WhisperRecognizer  # noqa: PLC0415

        # The spectrogram's one matrix product: slots that all spread it over all cores take 16 times as long for it.
        threadpool_limits(1, user_api="blas")
        return WhisperRecognizer(path, device, compute_type, threads, self.encoder_window, self.beam_size)


def _has_avx512() -> bool:
    """Return whether the processor has everything that CTranslate2's AVX-512 code was compiled for."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return {"avx512f", "avx512cd", "avx512vl", "avx512bw", "avx512dq"} <= set(flags)
