"""One loaded model and how it turns a batch of windows into text: a quick look at all, a careful one at the doubtful.

Whisper's encoder is trained on 30 s and is usually fed 30 s however short the message. Here a batch is padded only to
its longest window and a margin; the guard notices the window that this upsets, and that one is looked at again in full,
with a beam and then with rising temperature, as Whisper does.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ctranslate2
import numpy as np
import tokenizers
from faster_whisper.audio import pad_or_trim
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer

from pipeline.transcribe import align, guard
from pipeline.transcribe.guard import Draft
from pipeline.transcribe.window import WindowResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pipeline.transcribe.options import Options
    from pipeline.transcribe.window import Window

FULL = 3000  # frames of 10 ms; what the encoder was trained on
SHORTEST = 1000  # frames; below it the decoder loops (word error rates over 1 were measured at 500)
MARGIN = 200  # frames of silence after the longest window of a batch
STEP = 250  # frames; lengths are rounded up to it, so that few shapes occur
MOST_TOKENS = 448  # positions of Whisper's decoder, prompt included
MOST_CONTEXT = MOST_TOKENS // 2 - 1  # tokens of prompt and hotwords, as in OpenAI's decoder
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # OpenAI's, after 0
BEST_OF = 5  # samples at a temperature above 0, OpenAI's

# Sizes that keep their word error rate on a shortened encoder window, by the width of the model (d_model).
# Measured with bench/engine.py: see bench/results/.
SHORT_WINDOW_PROVEN = {384: "tiny", 512: "base"}


@dataclass(frozen=True, slots=True)
class Look:
    """One way of decoding: how much the encoder sees, how many hypotheses, and at which temperature."""

    name: str
    short: bool
    beam_size: int = 1
    temperature: float = 0.0


class Recognizer:
    """A loaded model; it belongs to one process and one thread.

    Args:
        path: folder of the model.
        device: `cuda` (the one GPU that the process sees) or `cpu`.
        compute_type: CTranslate2's name of the arithmetic, such as int8.
        threads: of one operation on a CPU.
        encoder_window: `auto` (shortened for the sizes that are proven), `full`, or the least seconds it may have.
        beam_size: of a second look.
    """

    def __init__(
        self, path: Path, device: str, compute_type: str, threads: int, encoder_window: str, beam_size: int
    ) -> None:
        self.model = ctranslate2.models.Whisper(
            str(path), device=device, compute_type=compute_type, inter_threads=1, intra_threads=threads
        )
        self.device = self.model.device
        self.compute_type = self.model.compute_type
        self.multilingual = self.model.is_multilingual
        self._tokens = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        self._features = FeatureExtractor(**_feature_options(path))
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        self._beam_size = beam_size
        width = self._encode([np.zeros((self.model.n_mels, SHORTEST), np.float32)], SHORTEST).shape[2]
        if encoder_window == "auto":
            self._shortest = SHORTEST if width in SHORT_WINDOW_PROVEN else FULL
        else:
            self._shortest = FULL if encoder_window == "full" else min(FULL, int(float(encoder_window) * 100))

    def run(self, work: Sequence[tuple[Window, Options]]) -> list[WindowResult]:
        """Return what was said in each window; every window comes with its message's options."""
        features = [self._features(window.audio)[..., :-1] for window, _ in work]
        results: list[WindowResult | None] = [None] * len(work)
        longest = max(feature.shape[-1] for feature in features)
        frames = min(FULL, max(self._shortest, -(-(longest + MARGIN) // STEP) * STEP))
        quick = Look("quick", short=frames < FULL)
        encoded = self._encode(features, frames)
        options = self._with_languages(encoded, [options for _, options in work])
        for index, draft in self._drafts(encoded, work, options, quick):
            seconds = work[index][0].duration
            if guard.doubt(draft, seconds) is None:
                results[index] = _result(work[index][0], draft, quick)
        for index, result in enumerate(results):
            if result is None:
                results[index] = self._look_again(work[index][0], features[index], options[index])
        return [result for result in results if result is not None]

    def _look_again(self, window: Window, feature: np.ndarray, options: tuple[Options, float | None]) -> WindowResult:
        """Decode a doubtful window on the full 30 s, with a beam, then with rising temperature; keep the best."""
        encoded = self._encode([feature], FULL)
        beam = options[0].beam_size or self._beam_size
        looks = [Look("beam", short=False, beam_size=beam)]
        looks += [Look(f"temperature {value}", short=False, temperature=value) for value in TEMPERATURES]
        drafts: list[tuple[Draft, Look]] = []
        for look in looks:
            _, draft = next(self._drafts(encoded, [(window, options[0])], [options], look))
            silent = draft.no_speech_prob > options[0].no_speech_threshold and draft.avg_logprob < guard.LOGPROB
            if silent:
                draft = replace(draft, tokens=(), text="")
            drafts.append((draft, look))
            if silent or guard.doubt(draft, window.duration) is None:
                break
        else:  # none is beyond doubt: as Whisper does, the likeliest of those that do not repeat themselves
            quiet = [one for one in drafts if guard.compression_ratio(one[0].text) <= guard.COMPRESSION_RATIO]
            drafts.append(max(quiet or drafts, key=lambda one: one[0].avg_logprob))
        draft, look = drafts[-1]
        return _result(window, draft, look)

    def _drafts(
        self,
        encoded: ctranslate2.StorageView,
        work: Sequence[tuple[Window, Options]],
        options: Sequence[tuple[Options, float | None]],
        look: Look,
    ) -> Iterator[tuple[int, Draft]]:
        """Decode the windows of an encoded batch; those whose prompts have the same length go together."""
        groups: dict[int, list[int]] = defaultdict(list)
        prompts = [self._prompt(option) for option, _ in options]
        for index, prompt in enumerate(prompts):
            groups[len(prompt)].append(index)
        for length, indices in groups.items():
            part = encoded if len(indices) == len(work) else _rows(encoded, indices)
            most = guard.budget(max(work[index][0].duration for index in indices))
            found = self.model.generate(
                part,
                [prompts[index] for index in indices],
                beam_size=look.beam_size,
                num_hypotheses=BEST_OF if look.temperature else 1,
                sampling_topk=0 if look.temperature else 1,
                sampling_temperature=look.temperature or 1.0,
                max_length=min(MOST_TOKENS, length + most),
                return_scores=True,
                return_no_speech_prob=True,
                suppress_blank=True,
                suppress_tokens=[-1],
            )
            for index, result in zip(indices, found, strict=True):
                tokenizer = self._tokenizer(options[index][0])
                tokens = tuple(token for token in result.sequences_ids[0] if token < tokenizer.eot)
                taken = len(result.sequences_ids[0])
                yield (
                    index,
                    Draft(
                        tokens=tokens,
                        text=tokenizer.decode(list(tokens)).strip(),
                        avg_logprob=result.scores[0] * taken / (taken + 1),  # the end counts as a token, as in OpenAI's
                        no_speech_prob=result.no_speech_prob,
                        language=tokenizer.language_code,
                        language_probability=options[index][1],
                        short=look.short,
                    ),
                )

    def _encode(self, features: Sequence[np.ndarray], frames: int) -> ctranslate2.StorageView:
        batch = np.stack([pad_or_trim(feature, frames) for feature in features]).astype(np.float32)
        return self.model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(batch)))

    def _with_languages(
        self, encoded: ctranslate2.StorageView, options: Sequence[Options]
    ) -> list[tuple[Options, float | None]]:
        """Return the options with a language each, and its probability where it had to be detected."""
        if not self.multilingual:
            return [(replace(option, language="en"), None) for option in options]
        unknown = [index for index, option in enumerate(options) if option.language is None]
        found: dict[int, tuple[str, float]] = {}
        if unknown:
            part = encoded if len(unknown) == len(options) else _rows(encoded, unknown)
            for index, guesses in zip(unknown, self.model.detect_language(part), strict=True):
                token, probability = guesses[0]
                found[index] = (token[2:-2], probability)  # <|en|>
        return [
            (replace(option, language=found[index][0]), found[index][1]) if index in found else (option, None)
            for index, option in enumerate(options)
        ]

    def _tokenizer(self, options: Options) -> Tokenizer:
        key = (options.language or "en", options.task)
        if key not in self._tokenizers:
            self._tokenizers[key] = Tokenizer(self._tokens, self.multilingual, task=key[1], language=key[0])
        return self._tokenizers[key]

    def _prompt(self, options: Options) -> list[int]:
        tokenizer = self._tokenizer(options)
        context: list[int] = []
        if options.hotwords:
            context += tokenizer.encode(" " + options.hotwords.strip())[:MOST_CONTEXT]
        if options.prompt:
            context += tokenizer.encode(" " + options.prompt.strip())
        before = [tokenizer.sot_prev, *context[-MOST_CONTEXT:]] if context else []
        return [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]


def _result(window: Window, draft: Draft, look: Look) -> WindowResult:
    return WindowResult(align.segments(window, draft), draft.language, draft.language_probability, look.name)


def _rows(encoded: ctranslate2.StorageView, rows: Sequence[int]) -> ctranslate2.StorageView:
    """Return some rows of an encoded batch."""
    if encoded.device != "cpu":
        encoded = encoded.to_device(ctranslate2.Device.cpu)
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(np.asarray(encoded)[list(rows)]))


def _feature_options(path: Path) -> dict[str, int]:
    """Read the shape of the spectrogram from the model's folder (large-v3 has 128 bands, the others 80)."""
    file = path / "preprocessor_config.json"
    if not file.is_file():
        return {}
    known = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft")
    return {key: value for key, value in json.loads(file.read_text(encoding="utf-8")).items() if key in known}
