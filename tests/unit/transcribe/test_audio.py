"""From the handed-over bytes to samples."""

from __future__ import annotations

import io
import subprocess
import wave

import numpy as np
import pytest

from pipeline.transcribe.audio import load
from voicemill.errors import JobError


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(samples.shape[1] if samples.ndim > 1 else 1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def tone(seconds: float, rate: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_flac_comes_back_sample_by_sample(tmp_path):
    (tmp_path / "in.wav").write_bytes(wav(tone(2.5)))
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "in.wav", tmp_path / "out.flac"], check=True)
    for source in (tmp_path / "out.flac", (tmp_path / "out.flac").read_bytes()):
        samples = load(source)
        assert (samples.dtype, samples.shape) == (np.float32, (40_000,))
        assert np.abs(samples - tone(2.5)).max() < 1e-4


def test_other_rates_and_a_dead_channel_are_taken_too():
    left = np.stack([tone(1, 8_000), np.zeros(8_000)], axis=1)
    samples = load(wav(left, 8_000))
    assert len(samples) == pytest.approx(16_000, abs=40)
    assert 0.2 < np.abs(samples).max() < 0.6


@pytest.mark.parametrize("data", [b"", b"this is no audio at all", wav(np.zeros(0, np.float32))[:30]])
def test_what_is_no_audio_is_undecodable(data):
    with pytest.raises(JobError) as caught:
        load(data)
    assert caught.value.code == "undecodable"
