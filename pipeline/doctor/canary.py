"""Canaries: a Whisper with random weights that needs no download, and the configured model on a second of speech.

Each runs in a child process with the workers' Python. The sample is speech, since silence never reaches the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional

from pipeline.doctor import child

COLD = 180.0  # seconds allowed for the first use: on H100, B200 and RTX 50 the driver compiles the build's PTX
WARM = 20.0  # seconds allowed when there is nothing to compile
SPEECH = Path(__file__).parent / "samples" / "speech.wav"  # 16 kHz, one channel, 16 bits

_BEGIN = """
import json, os, sys, tempfile, time
device, compute, path, speech = sys.argv[1:5]
begun = time.monotonic()
if device == "cuda":
    from pipeline.doctor import libraries
    libraries.preload()
import ctranslate2
"""

# The smallest Whisper that uses everything: convolutions, attention, beam search and alignment. Its vocabulary of 251
# is not a multiple of 4 or 8, since such sizes are where int8 arithmetic failed on new GPUs.
_MICRO = (
    _BEGIN
    + """
import numpy
from ctranslate2.specs import whisper_spec
WIDTH, HEADS, LAYERS, WORDS, MELS = 64, 2, 1, 251, 80
random = numpy.random.default_rng(0)
def weights(*shape):
    return (random.standard_normal(shape) * 0.05).astype(numpy.float32)
def linear(spec, outputs, inputs):
    spec.weight, spec.bias = weights(outputs, inputs), weights(outputs)
def norm(spec):
    spec.gamma, spec.beta = numpy.ones(WIDTH, numpy.float32), numpy.zeros(WIDTH, numpy.float32)
def forward(spec):
    norm(spec.layer_norm); linear(spec.linear_0, 4 * WIDTH, WIDTH); linear(spec.linear_1, WIDTH, 4 * WIDTH)
def attention(spec, *sizes):
    norm(spec.layer_norm)
    for part, size in zip(spec.linear, sizes):
        linear(part, size, WIDTH)
spec = whisper_spec.WhisperSpec(LAYERS, HEADS, LAYERS, HEADS)
encoder, decoder = spec.encoder, spec.decoder
for conv, inputs in ((encoder.conv1, MELS), (encoder.conv2, WIDTH)):
    conv.weight, conv.bias = weights(WIDTH, inputs, 3), weights(WIDTH)
encoder.position_encodings.encodings = weights(1500, WIDTH)
decoder.embeddings.weight = weights(WORDS, WIDTH)
decoder.position_encodings.encodings = weights(448, WIDTH)
decoder.projection.weight = weights(WORDS, WIDTH)
decoder.scale_embeddings = False
norm(encoder.layer_norm); norm(decoder.layer_norm)
for layer in encoder.layer:
    attention(layer.self_attention, 3 * WIDTH, WIDTH); forward(layer.ffn)
for layer in decoder.layer:
    attention(layer.self_attention, 3 * WIDTH, WIDTH); attention(layer.attention, WIDTH, 2 * WIDTH, WIDTH)
    forward(layer.ffn)
names = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
         "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"] + ["<|%.2f|>" % (0.02 * step) for step in range(50)]
words = ["t%d" % number for number in range(WORDS - len(names))] + names
spec.register_vocabulary(words)
spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
spec.config.alignment_heads, spec.config.lang_ids = [[0, 0]], [words.index("<|en|>")]
spec.validate()
with tempfile.TemporaryDirectory() as folder:
    spec.save(folder)
    model = ctranslate2.models.Whisper(folder, device=device, compute_type=compute)
loaded = time.monotonic()
features = ctranslate2.StorageView.from_array(numpy.ascontiguousarray(weights(1, MELS, 3000)))
encoded = model.encode(features, to_cpu=False)
prompt = [words.index(name) for name in ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")]
model.generate(encoded, [prompt], beam_size=2, max_length=12)
model.align(encoded, prompt[:3], [[5, 6, 7]], [1500])
print(json.dumps({"device": model.device, "load": loaded - begun, "run": time.monotonic() - loaded}))
"""
)

_CONFIGURED = (
    _BEGIN
    + """
import resource, wave
import ctypes
import numpy
from faster_whisper import WhisperModel
def free():  # bytes of the GPU's memory; the context is the one that ctranslate2 works in
    if device != "cuda":
        return None
    cuda, context, left, total = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    cuda.cuInit(0)
    cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    cuda.cuCtxSetCurrent(context)
    return left.value if cuda.cuMemGetInfo_v2(ctypes.byref(left), ctypes.byref(total)) == 0 else None
before = free()
model = WhisperModel(path, device=device, compute_type=compute)
loaded = time.monotonic()
with wave.open(speech) as file:
    sound = numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16).astype(numpy.float32) / 32768
segments, _ = model.transcribe(sound, vad_filter=False, word_timestamps=True)
segments = list(segments)  # a generator: the encoder runs here
ended, after = time.monotonic(), free()
print(json.dumps({"device": model.model.device, "load": loaded - begun, "run": ended - loaded,
                  "gpu": before - after if before and after else None,
                  "compute": model.model.compute_type, "segments": len(segments),
                  "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""
)


@dataclass(frozen=True)
class CanaryRun:
    """The result of running a model.

    `device` is where it really ran; `load` and `run` are seconds; `memory` is the peak of the process in bytes;
    `gpu_memory` is what the model and its work used of the GPU's memory, in bytes, None on a CPU.
    """

    outcome: child.ProcessResult
    device: str = ""
    compute: str = ""
    load: float = 0.0
    run: float = 0.0
    memory: Optional[int] = None
    gpu_memory: Optional[int] = None

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.outcome.ok

    @property
    def out_of_memory(self) -> bool:
        """Whether it ran out of memory."""
        return "out of memory" in self.outcome.err.lower()


def micro(
    python: str,
    device: str,
    compute: str = "default",
    *,
    timeout: Optional[float] = None,
    variables: Optional[Dict[str, str]] = None,
) -> CanaryRun:
    """Run a Whisper with random weights: encode, generate, align."""
    return _run(_MICRO, python, device, compute, "", timeout or COLD, variables)


def configured(
    python: str, device: str, compute: str, path: str, variables: Optional[Dict[str, str]] = None
) -> CanaryRun:
    """Run the model in a folder on a second of speech, until the segment generator is exhausted."""
    return _run(_CONFIGURED, python, device, compute, path, COLD, variables)


def _run(
    program: str,
    python: str,
    device: str,
    compute: str,
    path: str,
    timeout: float,
    variables: Optional[Dict[str, str]] = None,
) -> CanaryRun:
    arguments = (device, compute, path, str(SPEECH))
    outcome = child.python(program, *arguments, timeout=timeout, interpreter=python, variables=variables)
    seen = outcome.reply
    if not outcome.ok or seen is None:
        return CanaryRun(outcome)
    memory = seen["memory"] * 1024 if "memory" in seen else None  # ru_maxrss is in KiB on Linux
    return CanaryRun(
        outcome, seen["device"], seen.get("compute", compute), seen["load"], seen["run"], memory, seen.get("gpu")
    )
