"""One loaded model and how it turns a batch of windows into text: a quick look at all, a careful one at the doubtful.

Whisper's encoder is trained on 30 s and is usually fed 30 s however short the message. Here a batch is padded only to
its longest window and a margin; the guard notices the window that this upsets, and that one is looked at again in full,
with a beam and then with rising temperature, as Whisper does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

from pipeline.transcribe import align, guard, hallucinations
from pipeline.transcribe.guard import Draft
from pipeline.transcribe.window import LONGEST, WindowResult

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from pipeline.transcribe.options import Options
    from pipeline.transcribe.window import Window

FULL = 3000  # frames of 10 ms; what the encoder was trained on
# Seconds of a window where short looks are allowed: the encoder's cost grows faster than its length. In a long message
# they are shorter still, for what comes meanwhile waits until one is done: a quarter less, for 0.2 points of word error
# rate (two recordings of 20 minutes, tiny.en: .0613 and .0647 at 20 s, .0645 and .0655 at 15 s).
WINDOW = 20.0
LONG_WINDOW = 15.0
MOST_TOKENS = 448  # positions of Whisper's decoder, prompt included
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # OpenAI's, after 0
BEST_OF = 5  # samples at a temperature above 0, OpenAI's
LOUDEST = 0.1  # of the canary's noise; full scale is 1


@dataclass(frozen=True, slots=True)
class Look:
    """One way of decoding.

    `floor` and `margin` are frames: the encoder sees at least the first, and the second after the longest window. What
    is missing is filled with silence, as OpenAI trained it, or with zeros, as faster-whisper does: a loud hiss, which
    costs some words but breaks loops.
    """

    name: str
    floor: int = FULL
    margin: int = 0
    silence: bool = True
    beam_size: int = 1
    temperature: float = 0.0


def _short(floor: int, beam_size: int) -> tuple[Look, ...]:
    """Return two looks at a shortened window: filled with silence, and with zeros where the first is doubted."""
    quick = Look("quick", floor=floor, margin=200, beam_size=beam_size)
    return quick, replace(quick, name="second", silence=False)


# What the encoder is shown, by the width of the model (d_model), for the sizes that keep their word error rate on less
# than 30 s. Word error rates of 281 prompts (2,970 words) in batches of like length, and one by one:
#   tiny.en: faster-whisper as it comes .0714; greedy at 1,000 frames .0707, .0731; at 1,200 .0700, .0700
#   base:    faster-whisper as it comes .0596; greedy at 1,000 frames .0717 (it loops); at 1,200 .0626, .0650;
#            with a beam of 2 at 1,200 .0630, .0623; of 5 .0609, .0596, and a sixth slower
SHORT_LOOKS = {384: _short(1000, 1), 512: _short(1200, 2)}


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
        self._whisper = WhisperModel(str(path), device, compute_type=compute_type, cpu_threads=threads)
        self._model: ctranslate2.models.Whisper = self._whisper.model
        self.device: str = self._model.device
        self.compute_type: str = self._model.compute_type
        self.languages: list[str] = self._whisper.supported_languages
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        self._beam_size = beam_size
        self._looks: tuple[Look, ...] = (Look("quick"),)
        if encoder_window == "auto":
            width = self._encode([np.zeros((self._model.n_mels, 2), np.float32)], Look("width", floor=2)).shape[2]
            self._looks = SHORT_LOOKS.get(width, self._looks)
        elif encoder_window != "full":
            self._looks = (Look("quick", floor=round(float(encoder_window) * 100), margin=200),)
        short = self._looks[0].floor < FULL
        self.window = WINDOW if short else LONGEST  # seconds that a message's windows should have
        self.long_window = LONG_WINDOW if short else LONGEST  # the same of a long one

    def run(self, work: Sequence[tuple[Window, Options]]) -> list[WindowResult]:
        """Return what was said in each window; every window comes with its message's options."""
        results: dict[int, WindowResult] = {}
        groups: dict[int, list[int]] = defaultdict(list)  # CTranslate2 wants prompts of one length in a batch
        for index, (_, options) in enumerate(work):
            groups[len(self._prompt(options))].append(index)
        for indices in groups.values():
            results.update(zip(indices, self._group([work[index] for index in indices]), strict=True))
        return [results[index] for index in range(len(work))]

    def canary(self, seconds: float = 1.0) -> None:
        """Decode noise to its end, quickly and carefully, with alignment: whatever comes out, everything has run."""
        noise = np.random.default_rng(0).normal(0, LOUDEST, int(seconds * 16_000)).astype(np.float32)
        features = [self._features(noise)]
        for look in (self._looks[0], Look("beam", beam_size=2)):
            encoded = self._encode(features, look)
            options = self._with_languages(encoded, [align.CANARY_OPTIONS])
            self._drafts(encoded, [seconds], options, look)
            tokenizer = self._tokenizer(options[0][0])
            self._whisper.find_alignment(tokenizer, [tokenizer.encode(" one two")], encoded, [100])

    def _group(self, work: Sequence[tuple[Window, Options]]) -> list[WindowResult]:
        """Look quickly at windows whose prompts have one length, and more and more carefully at the doubtful."""
        features = [self._features(window.audio) for window, _ in work]
        options: list[tuple[Options, float | None]] = [(wish, None) for _, wish in work]
        results: dict[int, WindowResult] = {}
        doubted: dict[int, list[Draft]] = defaultdict(list)
        for look in self._looks:
            left = [index for index in range(len(work)) if index not in results]
            if not left:
                break
            seen = [features[index] for index in left]
            encoded = self._encode(seen, look)
            known = self._with_languages(encoded, [options[index][0] for index in left])
            windows = [work[index][0] for index in left]
            drafts = self._drafts(encoded, [window.duration for window in windows], known, look)
            timings = self._timings(encoded, seen, windows, known, drafts)
            for index, window, draft, words, option in zip(left, windows, drafts, timings, known, strict=True):
                options[index] = (option[0], option[1] if option[1] is not None else options[index][1])
                if self._doubt(window, draft, words) is None:
                    results[index] = self._result(window, draft, look, words, option[0])
                else:
                    doubted[index].append(draft)
        return [
            results.get(index) or self._look_again(work[index][0], features[index], options[index], doubted[index])
            for index in range(len(work))
        ]

    @staticmethod
    def _doubt(window: Window, draft: Draft, timings: align.Timings, earlier: Collection[Draft] = ()) -> str | None:
        aligned = bool(timings) or (draft.short and not draft.tokens)
        return guard.doubt(
            draft,
            window.duration,
            window.spoken,
            longest_word=max((align.voiced(window, timing) for timing in timings), default=0.0),
            untold=align.untold(window, timings) if aligned else 0.0,
            earlier=earlier,
        )

    def _look_again(
        self,
        window: Window,
        feature: np.ndarray,
        option: tuple[Options, float | None],
        doubted: Sequence[Draft],
    ) -> WindowResult:
        """Decode a doubtful window on the full 30 s, with a beam, then with rising temperature; keep the best."""
        options, _ = option
        encoded = self._encode([feature], Look("full"))
        looks = [Look("beam", beam_size=options.beam_size or self._beam_size)]
        looks += [Look(f"temperature {value}", temperature=value) for value in TEMPERATURES]
        tried: list[tuple[Draft, Look, align.Timings]] = []
        for look in looks:
            [draft] = self._drafts(encoded, [window.duration], [option], look)
            silent = draft.no_speech_prob > options.no_speech_threshold and draft.avg_logprob < guard.LOGPROB
            if silent:
                draft = replace(draft, tokens=(), text="")
            [words] = self._timings(encoded, [feature], [window], [option], [draft])
            tried.append((draft, look, words))
            if silent or self._doubt(window, draft, words, doubted) is None:
                break
        else:  # none is beyond doubt: as Whisper does, the likeliest of those that do not repeat themselves
            calm = [one for one in tried if guard.compression_ratio(one[0].text) <= guard.COMPRESSION_RATIO]
            tried.append(max(calm or tried, key=lambda one: one[0].avg_logprob))
        draft, look, words = tried[-1]
        return self._result(window, draft, look, words, options)

    def _drafts(
        self,
        encoded: ctranslate2.StorageView,
        seconds: Sequence[float],
        options: Sequence[tuple[Options, float | None]],
        look: Look,
    ) -> list[Draft]:
        """Decode the windows of an encoded batch; their prompts have one length."""
        prompts = [self._prompt(option) for option, _ in options]
        found = self._model.generate(
            encoded,
            prompts,
            beam_size=look.beam_size,
            num_hypotheses=BEST_OF if look.temperature else 1,
            sampling_topk=0 if look.temperature else 1,
            sampling_temperature=look.temperature or 1.0,
            max_length=min(MOST_TOKENS, len(prompts[0]) + guard.budget(max(seconds))),
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
                    short=look.floor < FULL,
                )
            )
        return drafts

    def _timings(
        self,
        encoded: ctranslate2.StorageView,
        features: Sequence[np.ndarray],
        windows: Sequence[Window],
        options: Sequence[tuple[Options, float | None]],
        drafts: Sequence[Draft],
    ) -> list[align.Timings]:
        """Return the aligned words of the windows that want them, and nothing for the others; times in seconds."""
        wanted = [
            bool(draft.tokens) and (align.wants_words(window, option, draft.text) or guard.sparse(draft, window.spoken))
            for window, (option, _), draft in zip(windows, options, drafts, strict=True)
        ]
        found: list[align.Timings] = [[] for _ in windows]
        starts: dict[tuple[int, ...], list[int]] = defaultdict(list)  # an alignment has one start sequence
        for index, (option, _) in enumerate(options):
            if wanted[index]:
                starts[tuple(self._tokenizer(option).sot_sequence)].append(index)
        for indices in starts.values():
            tokenizer = self._tokenizer(options[indices[0]][0])
            rows = indices if self.device == "cpu" else range(len(drafts))  # what is on a GPU stays there
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

    def _result(self, window: Window, draft: Draft, look: Look, words: align.Timings, options: Options) -> WindowResult:
        if hallucinations.hallucinated(draft):
            draft = replace(draft, tokens=(), text="")
        segments = align.segments(window, draft, words, keep_words=options.word_timestamps)
        return WindowResult(segments, draft.language, draft.language_probability, look.name)

    def _features(self, audio: np.ndarray) -> np.ndarray:
        """Return the log-Mel spectrogram, float32 of shape (bands, frames)."""
        feature: np.ndarray = self._whisper.feature_extractor(audio)[..., :-1]  # the last frame is the extractor's own
        return feature

    def _encode(self, features: Sequence[np.ndarray], look: Look) -> ctranslate2.StorageView:
        """Return the encoder's output, of shape (windows, frames / 2, d_model)."""
        longest = max(feature.shape[1] for feature in features)
        frames = min(FULL, max(look.floor, longest + look.margin + (longest + look.margin) % 2))
        padded = [_padded(feature, frames, silence=look.silence) for feature in features]
        if self.device == "cpu" and len(padded) > 1:  # one at a time stays in the cache: up to 1.7 times as fast
            rows = [np.asarray(self._whisper.encode(feature)) for feature in padded]
            return ctranslate2.StorageView.from_array(np.concatenate(rows))
        return self._whisper.encode(np.stack(padded))

    def _with_languages(
        self, encoded: ctranslate2.StorageView, options: Sequence[Options]
    ) -> list[tuple[Options, float | None]]:
        """Return the options with a language each, and its probability where it had to be detected."""
        if not self._model.is_multilingual:
            return [(replace(option, language="en"), None) for option in options]
        if all(option.language for option in options):
            return [(option, None) for option in options]
        guesses = [row[0] for row in self._model.detect_language(encoded)]
        return [
            (option, None) if option.language else (replace(option, language=token[2:-2]), probability)  # <|en|>
            for option, (token, probability) in zip(options, guesses, strict=True)
        ]

    def _tokenizer(self, options: Options) -> Tokenizer:
        key = (options.language or "en", options.task)
        if key not in self._tokenizers:
            self._tokenizers[key] = Tokenizer(
                self._whisper.hf_tokenizer, self._model.is_multilingual, task=options.task, language=key[0]
            )
        return self._tokenizers[key]

    def _prompt(self, options: Options) -> list[int]:
        tokenizer = self._tokenizer(options)
        previous = tokenizer.encode(" " + options.prompt.strip()) if options.prompt else []
        most = MOST_TOKENS // 2 - 1  # of prompt and hotwords together: the rest is for the text
        hotwords = options.hotwords or None
        if hotwords:
            previous = previous[-(most - min(most, len(tokenizer.encode(" " + hotwords)))) :]
        prompt: list[int] = self._whisper.get_prompt(tokenizer, previous, without_timestamps=True, hotwords=hotwords)
        return prompt


def _padded(feature: np.ndarray, frames: int, *, silence: bool) -> np.ndarray:
    """Pad a spectrogram with its own silence or with zeros, or cut it, to this many frames."""
    missing = frames - feature.shape[1]
    if missing <= 0:
        return feature[:, :frames]
    return np.pad(feature, ((0, 0), (0, missing)), constant_values=feature.min() if silence else 0.0)


def _picked(encoded: ctranslate2.StorageView, rows: Sequence[int]) -> ctranslate2.StorageView:
    """Return these windows of a batch that the CPU encoded."""
    return ctranslate2.StorageView.from_array(np.asarray(encoded)[list(rows)])
