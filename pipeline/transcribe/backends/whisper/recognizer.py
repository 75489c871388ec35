"""A loaded Whisper model: how it turns a batch of windows into text, with a quick pass first and fallbacks after it.

Whisper's encoder is trained on 30 s and is usually fed 30 s however short the message. Here a batch is padded only to
its longest window and a margin. The quality check rejects results that this degrades; those windows are decoded again
in full, with a beam and then with rising temperature, as Whisper does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

from config.bounds import ENCODER
from pipeline.transcribe.backends.base import Capabilities, Recognizer, WindowRequest, WindowResult
from pipeline.transcribe.backends.whisper import alignment, hallucinations, quality
from pipeline.transcribe.backends.whisper.passes import BEAM, FULL, QUICK_PASSES, ZERO_PADDED, Pass, padded
from pipeline.transcribe.backends.whisper.quality import Draft
from pipeline.transcribe.options import DecodingOptions
from pipeline.transcribe.window import halves

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pipeline.transcribe.window import Window

# Seconds of a window where quick passes are allowed: the encoder's cost grows faster than its length. In a long message
# they are shorter still, since messages that arrive meanwhile wait until one is done: a quarter less time, for 0.2
# points of word error rate (two recordings of 20 minutes, tiny.en: .0613 and .0647 at 20 s, .0645 and .0655 at 15 s).
WINDOW = 20.0
LONG_WINDOW = 15.0
MOST_TOKENS = 448  # positions of Whisper's decoder, prompt included
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # OpenAI's, after 0
BEST_OF = 5  # samples at a temperature above 0, OpenAI's
LANGUAGE_CONFIDENCE = 0.5  # probability of a language below which it is detected again, on the full 30 s
TRIAL_WINDOWS, TRIAL_SECONDS, TRIAL_TOKENS = 8, 5.0, 20  # medians of a batch of voice messages
LOUDNESS = 0.1  # standard deviation of the canary's noise; full scale is 1
CANARY_OPTIONS = DecodingOptions()


@dataclass(frozen=True, slots=True)
class DecodingAttempt:
    """What one pass made of a window, with its aligned words.

    `longest_word` is how much speech its longest word fills, `unaligned_tail` how much follows its last one (seconds);
    both are 0 where nothing was aligned.
    """

    draft: Draft
    decoding_pass: Pass
    words: alignment.Timings
    longest_word: float
    unaligned_tail: float
    instant: int  # the most words in a row that take no time


class QualityCheck(Protocol):
    """Decides whether an attempt at a window is good enough."""

    def __call__(
        self,
        attempt: DecodingAttempt,
        window: Window,
        rejected: Sequence[DecodingAttempt] = (),
        *,
        contested: bool = False,
    ) -> str | None:
        """Return why the attempt is rejected, or None; see `quality.reject_reason`."""


def check_quality(
    attempt: DecodingAttempt, window: Window, rejected: Sequence[DecodingAttempt] = (), *, contested: bool = False
) -> str | None:
    """Apply `quality.reject_reason` to an attempt."""
    return quality.reject_reason(
        attempt.draft,
        window.duration,
        window.spoken,
        longest_word=attempt.longest_word,
        unaligned_tail=attempt.unaligned_tail,
        instant=attempt.instant,
        earlier=[one.draft for one in rejected],
        contested=contested,
    )


class WhisperRecognizer(Recognizer):
    """A loaded model.

    Args:
        path: folder of the model.
        device: `cuda` (the one GPU that the process sees) or `cpu`.
        compute_type: CTranslate2's name of the arithmetic, such as int8.
        threads: of one operation on a CPU.
        encoder_window: `auto` (shortened for the sizes of which measurements exist), `full`, or its least seconds.
        beam_size: of the first fallback pass.
        quick_passes: the first passes by width of the model (d_model).
        reject_reason: the quality check.
        hallucinated: whether an accepted text is dropped.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        path: Path,
        device: str,
        compute_type: str,
        threads: int,
        encoder_window: str = "auto",
        beam_size: int = BEAM,
        *,
        quick_passes: Mapping[int, tuple[Pass, ...]] = QUICK_PASSES,
        reject_reason: QualityCheck = check_quality,
        hallucinated: Callable[[Draft], bool] = hallucinations.hallucinated,
    ) -> None:
        self._whisper = WhisperModel(str(path), device, compute_type=compute_type, cpu_threads=threads)
        self._model: ctranslate2.models.Whisper = self._whisper.model
        self.device: str = self._model.device
        self.compute_type: str = self._model.compute_type
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        self._beam_size = beam_size
        self._reject_reason = reject_reason
        self._hallucinated = hallucinated
        width = self._encode([np.zeros((self._model.n_mels, 2), np.float32)], Pass("width", floor=2)).shape[2]
        self._quick_passes: tuple[Pass, ...] = quick_passes.get(width, (Pass("quick", beam_size=BEAM),))
        if encoder_window != "auto":
            floor = FULL if encoder_window == "full" else round(float(encoder_window) * 100)
            self._quick_passes = (replace(self._quick_passes[0], floor=floor, margin=200),)
        short = self._quick_passes[0].floor < FULL
        self.capabilities = Capabilities(
            languages=frozenset(self._whisper.supported_languages),
            longest_window=WINDOW if short else float(ENCODER),
            long_message_window=LONG_WINDOW if short else float(ENCODER),
            tasks=frozenset({"transcribe", "translate"} if self._model.is_multilingual else {"transcribe"}),
        )

    def run(self, requests: Sequence[WindowRequest]) -> list[WindowResult]:
        """Return what was said in each window."""
        work = [(request.window, replace(request.options, language=request.language)) for request in requests]
        results: dict[int, WindowResult] = {}
        groups: dict[int, list[int]] = defaultdict(list)  # CTranslate2 wants prompts of one length in a batch
        for index, (_, options) in enumerate(work):
            groups[len(self._prompt(options))].append(index)
        for indices in groups.values():
            results.update(zip(indices, self._group([work[index] for index in indices]), strict=True))
        return [results[index] for index in range(len(work))]

    def canary(self, seconds: float = 1.0) -> None:
        """Decode noise to its end with a quick and a full pass, and align it; the result does not matter."""
        noise = np.random.default_rng(0).normal(0, LOUDNESS, int(seconds * 16_000)).astype(np.float32)
        features = [self._features(noise)]
        for decoding_pass in (self._quick_passes[0], Pass("beam", beam_size=2)):
            encoded = self._encode(features, decoding_pass)
            options = self._with_languages(encoded, features, [CANARY_OPTIONS])
            self._drafts(encoded, [seconds], options, decoding_pass)
            tokenizer = self._tokenizer(options[0][0])
            self._whisper.find_alignment(tokenizer, [tokenizer.encode(" one two")], encoded, [100])

    def trial(self) -> int:
        """Do the work of a batch of short voice messages, and return its number of windows."""
        noise = np.random.default_rng(0).normal(0, LOUDNESS, int(TRIAL_SECONDS * 16_000)).astype(np.float32)
        encoded = self._encode([self._features(noise)] * TRIAL_WINDOWS, self._quick_passes[0])
        prompt = self._prompt(CANARY_OPTIONS)
        end = self._tokenizer(CANARY_OPTIONS).eot  # suppressed, so that noise takes as long as speech
        self._model.generate(
            encoded,
            [prompt] * TRIAL_WINDOWS,
            beam_size=self._quick_passes[0].beam_size,
            max_length=_room_for(TRIAL_TOKENS, prompt),
            suppress_tokens=[-1, end],
        )
        return TRIAL_WINDOWS

    def _group(self, work: Sequence[tuple[Window, DecodingOptions]]) -> list[WindowResult]:
        """Decode windows whose prompts have one length: quick passes for all, fallbacks for those that are rejected."""
        features = [self._features(window.audio) for window, _ in work]
        options: list[tuple[DecodingOptions, float | None]] = [(option, None) for _, option in work]
        results: dict[int, WindowResult] = {}
        rejected: dict[int, list[DecodingAttempt]] = defaultdict(list)
        for decoding_pass in self._quick_passes:
            left = [index for index in range(len(work)) if index not in results]
            if not left:
                break
            seen = [features[index] for index in left]
            encoded = self._encode(seen, decoding_pass)
            known = self._with_languages(encoded, seen, [options[index][0] for index in left])
            # If an earlier pass detected the language, the probability is that pass's.
            known = [
                (option, options[index][1] if probability is None else probability)
                for index, (option, probability) in zip(left, known, strict=True)
            ]
            windows = [work[index][0] for index in left]
            drafts = self._drafts(encoded, [window.duration for window in windows], known, decoding_pass)
            timings = self._timings(encoded, seen, windows, known, drafts)
            for index, window, draft, words, option in zip(left, windows, drafts, timings, known, strict=True):
                options[index] = option
                attempt = _attempt(window, draft, decoding_pass, words)
                if self._reject_reason(attempt, window) is None:
                    results[index] = self._result(window, attempt, option[0])
                else:
                    rejected[index].append(attempt)
        return [
            results.get(index) or self._fall_back(work[index][0], features[index], options[index], rejected[index])
            for index in range(len(work))
        ]

    def _fall_back(
        self,
        window: Window,
        feature: np.ndarray,
        option: tuple[DecodingOptions, float | None],
        rejected: Sequence[DecodingAttempt],
    ) -> WindowResult:
        """Decode a rejected window on the full 30 s, with a beam, then with rising temperature; keep the best."""
        options = option[0]
        encoded = self._encode([feature], Pass("full"))
        passes = [Pass("beam", beam_size=options.beam_size or self._beam_size)]
        passes += [Pass(f"temperature {value}", temperature=value) for value in TEMPERATURES]
        agreed = self._agreed(window, rejected)
        tried: list[DecodingAttempt] = []
        for fallback in passes:
            [draft] = self._drafts(encoded, [window.duration], [option], fallback)
            silent = draft.no_speech_prob > options.no_speech_threshold and draft.avg_logprob < quality.LOGPROB
            if silent:
                draft = replace(draft, tokens=(), text="")
            [words] = self._timings(encoded, [feature], [window], [option], [draft])
            tried.append(_attempt(window, draft, fallback, words))
            parts = halves(window) if self._omits_speech(tried[-1], options) else None
            contested = agreed is not None
            accepted = parts is None and self._reject_reason(tried[-1], window, rejected, contested=contested) is None
            if silent or accepted:
                break
            if agreed is not None:
                tried.append(agreed)
                break
            if parts is not None:
                found = self._group([(part, options) for part in parts])
                return WindowResult(found[0].segments + found[1].segments, draft.language, option[1], "halves")
        else:  # all are rejected: take, as Whisper does, the likeliest of those that do not repeat themselves
            plain = [one for one in tried if quality.compression_ratio(one.draft.text) <= quality.COMPRESSION_RATIO]
            tried.append(max(plain or tried, key=lambda one: one.draft.avg_logprob))
        return self._result(window, tried[-1], options)

    def _drafts(
        self,
        encoded: ctranslate2.StorageView,
        seconds: Sequence[float],
        options: Sequence[tuple[DecodingOptions, float | None]],
        decoding_pass: Pass,
    ) -> list[Draft]:
        """Decode the windows of an encoded batch; their prompts have one length."""
        prompts = [self._prompt(option) for option, _ in options]
        short = decoding_pass.floor < FULL
        most = max(
            quality.token_budget(length, option.language or "en", short=short)
            for length, (option, _) in zip(seconds, options, strict=True)
        )
        found = self._model.generate(
            encoded,
            prompts,
            beam_size=decoding_pass.beam_size,
            num_hypotheses=BEST_OF if decoding_pass.temperature else 1,
            sampling_topk=0 if decoding_pass.temperature else 1,
            sampling_temperature=decoding_pass.temperature or 1.0,
            max_length=_room_for(most, prompts[0]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        drafts = []
        for result, (option, probability) in zip(found, options, strict=True):
            tokenizer = self._tokenizer(option)
            ids = result.sequences_ids[0]
            tokens = tuple(token for token in ids if token < tokenizer.eot)
            drafts.append(
                Draft(
                    tokens=tokens,
                    text=tokenizer.decode(list(tokens)).strip(),
                    avg_logprob=result.scores[0] * len(ids) / (len(ids) + 1),  # OpenAI counts the end as a token
                    no_speech_prob=result.no_speech_prob,
                    language=tokenizer.language_code,
                    language_probability=probability,
                    short=short,
                )
            )
        return drafts

    def _timings(
        self,
        encoded: ctranslate2.StorageView,
        features: Sequence[np.ndarray],
        windows: Sequence[Window],
        options: Sequence[tuple[DecodingOptions, float | None]],
        drafts: Sequence[Draft],
    ) -> list[alignment.Timings]:
        """Return the aligned words of the windows that need them (times in seconds), and no words for the others."""
        wanted = [
            bool(draft.tokens)
            and (alignment.wants_words(window, option, draft.text) or quality.must_align(draft, window.spoken))
            for window, (option, _), draft in zip(windows, options, drafts, strict=True)
        ]
        found: list[alignment.Timings] = [[] for _ in windows]
        starts: dict[tuple[int, ...], list[int]] = defaultdict(list)  # an alignment has one start sequence
        for index, (option, _) in enumerate(options):
            if wanted[index]:
                starts[tuple(self._tokenizer(option).sot_sequence)].append(index)
        for indices in starts.values():
            tokenizer = self._tokenizer(options[indices[0]][0])
            rows = indices if self.device == "cpu" else range(len(drafts))  # what is on a GPU is not copied
            filler = tokenizer.encode(" a")  # rows that belong to others still need a token
            timings = self._whisper.find_alignment(
                tokenizer,
                [list(drafts[row].tokens) if row in indices else filler for row in rows],
                encoded if len(rows) == len(drafts) else _picked(encoded, rows),
                [features[row].shape[-1] for row in rows],
            )
            for row, words in zip(rows, timings, strict=True):
                if row in indices:
                    found[row] = words
        return found

    def _result(self, window: Window, attempt: DecodingAttempt, options: DecodingOptions) -> WindowResult:
        draft = attempt.draft
        if self._hallucinated(draft):
            draft = replace(draft, tokens=(), text="")
        segments = alignment.segments(window, draft, attempt.words, keep_words=options.word_timestamps)
        return WindowResult(segments, draft.language, draft.language_probability, attempt.decoding_pass.name)

    def _omits_speech(self, attempt: DecodingAttempt, options: DecodingOptions) -> bool:
        """Return whether a full pass omits speech that smaller windows would transcribe."""
        full = len(attempt.draft.tokens) >= min(MOST_TOKENS // 2, MOST_TOKENS - len(self._prompt(options))) - 1
        return full or quality.omits_speech(attempt.draft, attempt.longest_word, attempt.unaligned_tail)

    def _agreed(self, window: Window, rejected: Sequence[DecodingAttempt]) -> DecodingAttempt | None:
        """Return the last of several passes if its only fault is a repetition that another one has too."""
        if len(rejected) > 1 and self._reject_reason(rejected[-1], window, rejected[:-1]) is None:
            return rejected[-1]
        return None

    def _features(self, audio: np.ndarray) -> np.ndarray:
        """Return the log-Mel spectrogram, float32 of shape (bands, frames)."""
        feature: np.ndarray = self._whisper.feature_extractor(audio)[..., :-1]  # the last frame is the extractor's own
        return feature

    def _encode(self, features: Sequence[np.ndarray], decoding_pass: Pass) -> ctranslate2.StorageView:
        """Return the encoder's output, of shape (windows, frames / 2, d_model)."""
        longest = max(feature.shape[1] for feature in features)
        wanted = longest + decoding_pass.margin
        frames = min(FULL, max(decoding_pass.floor, wanted + wanted % 2))
        shown = [padded(feature, frames, silence=decoding_pass.silence) for feature in features]
        if self.device == "cpu" and len(shown) > 1:  # one at a time fits into the cache: up to 1.7 times as fast
            rows = [np.asarray(self._whisper.encode(feature)) for feature in shown]
            return ctranslate2.StorageView.from_array(np.concatenate(rows))
        return self._whisper.encode(np.stack(shown))

    def _with_languages(
        self, encoded: ctranslate2.StorageView, features: Sequence[np.ndarray], options: Sequence[DecodingOptions]
    ) -> list[tuple[DecodingOptions, float | None]]:
        """Return the options with a language each, and its probability if it was detected."""
        if not self._model.is_multilingual:
            return [(replace(option, language="en"), None) for option in options]
        if all(option.language for option in options):
            return [(option, None) for option in options]
        guesses = [row[0] for row in self._model.detect_language(encoded)]
        unsure = [
            index
            for index, (option, (_, probability)) in enumerate(zip(options, guesses, strict=True))
            if not option.language and probability < LANGUAGE_CONFIDENCE
        ]
        if unsure:
            again = self._model.detect_language(self._encode([features[index] for index in unsure], ZERO_PADDED))
            for index, row in zip(unsure, again, strict=True):
                guesses[index] = row[0]
        return [
            (option, None) if option.language else (replace(option, language=token[2:-2]), probability)  # <|en|>
            for option, (token, probability) in zip(options, guesses, strict=True)
        ]

    def _tokenizer(self, options: DecodingOptions) -> Tokenizer:
        key = (options.language or "en", options.task)
        if key not in self._tokenizers:
            self._tokenizers[key] = Tokenizer(
                self._whisper.hf_tokenizer, self._model.is_multilingual, task=options.task, language=key[0]
            )
        return self._tokenizers[key]

    def _prompt(self, options: DecodingOptions) -> list[int]:
        tokenizer = self._tokenizer(options)
        previous = tokenizer.encode(" " + options.prompt.strip()) if options.prompt else []
        most = MOST_TOKENS // 2 - 1  # of prompt and hotwords together: the rest is for the text
        hotwords = options.hotwords or None
        if hotwords:
            room = most - min(most, len(tokenizer.encode(" " + hotwords)))
            previous = previous[-room:] if room else []
        prompt: list[int] = self._whisper.get_prompt(tokenizer, previous, without_timestamps=True, hotwords=hotwords)
        return prompt


def _room_for(tokens: int, prompt: Sequence[int]) -> int:
    """Return CTranslate2's `max_length` for a text of `tokens`: the prompt counts, and the text gets half at most."""
    return min(MOST_TOKENS, tokens + max(tokens, len(prompt)))


def _attempt(window: Window, draft: Draft, decoding_pass: Pass, words: alignment.Timings) -> DecodingAttempt:
    longest = max((alignment.voiced(window, word) for word in words), default=0.0)
    silent = draft.short and not draft.tokens  # then all speech is an unaligned tail
    tail = alignment.unaligned_tail(window, words) if words or silent else 0.0
    return DecodingAttempt(draft, decoding_pass, words, longest, tail, alignment.longest_instant(words))


def _picked(encoded: ctranslate2.StorageView, rows: Sequence[int]) -> ctranslate2.StorageView:
    """Return these windows of a batch that the CPU encoded."""
    return ctranslate2.StorageView.from_array(np.asarray(encoded)[list(rows)])
