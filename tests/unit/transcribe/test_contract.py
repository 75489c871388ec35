"""The package's public surface."""

from __future__ import annotations

import subprocess
import sys

from pipeline.transcribe import Segment, Transcript, Word


def test_importing_the_package_or_the_renderings_imports_nothing_heavy():
    heavy = "{'numpy', 'av', 'ctranslate2', 'faster_whisper', 'onnxruntime', 'pebble'}"
    program = f"import sys, pipeline.transcribe, voicemill.transcript; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_transcript_is_written_as_the_job_record_has_it():
    word = Word(1.0049, 1.5, " Hello.", 0.98765)
    segment = Segment(1.0, 1.5, "Hello.", -0.12345, 0.01, (word,))
    transcript = Transcript("Hello.", "en", None, 2.0, "tiny.en", "cpu", "int8", (segment,), no_speech=False)
    assert transcript.as_dict() == {
        "text": "Hello.",
        "language": "en",
        "language_probability": None,
        "duration": 2.0,
        "model": "tiny.en",
        "device": "cpu",
        "compute_type": "int8",
        "segments": [
            {
                "start": 1.0,
                "end": 1.5,
                "text": "Hello.",
                "avg_logprob": -0.123,
                "no_speech_prob": 0.01,
                "words": [{"start": 1.0, "end": 1.5, "word": " Hello.", "probability": 0.988}],
            }
        ],
        "no_speech": False,
    }


def test_a_degraded_transcript_says_why():
    transcript = Transcript("", None, None, 2.0, "m", "cpu", "int8", (), no_speech=True, degraded="no driver")
    record = transcript.as_dict()
    assert (record["degraded"], record["degraded_reason"]) == (True, "no driver")
