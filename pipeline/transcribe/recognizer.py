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
from pipeline.transcribe.look import AS_IT_COMES, BEAM, FULL, SHORT_LOOKS, Look, padded
from pipeline.transcribe.window import LONGEST, WindowResult, halves

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.transcribe.options import Options
    from pipeline.transcribe.window import Window

# Seconds of a window where short looks are allowed: the encoder's cost grows faster than its length. In a long message
# they are shorter still, for what comes meanwhile waits until one is done: a quarter less, for 0.2 points of word error
# rate (two recordings of 20 minutes, tiny.en: .0613 and .0647 at 20 s, .0645 and .0655 at 15 s).
WINDOW = 20.0
LONG_WINDOW = 15.0
MOST_TOKENS = 448  # positions of Whisper's decoder, prompt included
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # OpenAI's, after 0
BEST_OF = 5  # samples at a temperature above 0, OpenAI's
SURE = 0.5  # probability of a language under which it is detected again, on the full 30 s
TRIAL_WINDOWS, TRIAL_SECONDS, TRIAL_TOKENS = 8, 5.0, 20  # of a batch as voice messages make it: a median each
LOUDEST = 0.1  # of the canary's noise; full scale is 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one look made of a window, with its aligned words.

    `longest_word` is how much speech its longest word fills, `untold` how much follows its last one (seconds); 0 where
    nothing was aligned.
    """

    draft: Draft
    look: Look
    words: align.Timings
    longest_word: float
    untold: float
    instant: int  # the most words in a row that take no time


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
        width = self._encode([np.zeros((self._model.n_mels, 2), np.float32)], Look("width", floor=2)).shape[2]
        self._looks: tuple[Look, ...] = SHORT_LOOKS.get(width, (Look("quick", beam_size=BEAM),))
        if encoder_window != "auto":
            floor = FULL if encoder_window == "full" else round(float(encoder_window) * 100)
            self._looks = (replace(self._looks[0], floor=floor, margin=200),)
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
            options = self._with_languages(encoded, features, [align.CANARY_OPTIONS])
            self._drafts(encoded, [seconds], options, look)
            tokenizer = self._tokenizer(options[0][0])
            self._whisper.find_alignment(tokenizer, [tokenizer.encode(" one two")], encoded, [100])

    def trial(self) -> int:
        """Do what a batch of short voice messages costs, and return the number of its windows."""
        noise = np.random.default_rng(0).normal(0, LOUDEST, int(TRIAL_SECONDS * 16_000)).astype(np.float32)
        encoded = self._encode([self._features(noise)] * TRIAL_WINDOWS, self._looks[0])
        prompt = self._prompt(align.CANARY_OPTIONS)
        end = self._tokenizer(align.CANARY_OPTIONS).eot  # never: noise is to take as long as speech does
        self._model.generate(
            encoded,
            [prompt] * TRIAL_WINDOWS,
            beam_size=self._looks[0].beam_size,
            max_length=_room_for(TRIAL_TOKENS, prompt),
            suppress_tokens=[-1, end],
        )
        return TRIAL_WINDOWS

    def _group(self, work: Sequence[tuple[Window, Options]]) -> list[WindowResult]:
        """Look quickly at windows whose prompts have one length, and more and more carefully at the doubtful."""
        features = [self._features(window.audio) for window, _ in work]
        options: list[tuple[Options, float | None]] = [(wish, None) for _, wish in work]
        results: dict[int, WindowResult] = {}
        doubted: dict[int, list[Attempt]] = defaultdict(list)
        for look in self._looks:
            left = [index for index in range(len(work)) if index not in results]
            if not left:
                break
            seen = [features[index] for index in left]
            encoded = self._encode(seen, look)
            known = self._with_languages(encoded, seen, [options[index][0] for index in left])
            # If an earlier pass detected the language, the probability is that pass's.
            known = [
                (option, options[index][1] if probability is None else probability)
                for index, (option, probability) in zip(left, known, strict=True)
            ]
            windows = [work[index][0] for index in left]
            drafts = self._drafts(encoded, [window.duration for window in windows], known, look)
            timings = self._timings(encoded, seen, windows, known, drafts)
            for index, window, draft, words, option in zip(left, windows, drafts, timings, known, strict=True):
                options[index] = option
                attempt = _attempt(window, draft, look, words)
                if _doubt(attempt, window) is None:
                    results[index] = self._result(window, attempt, option[0])
                else:
                    doubted[index].append(attempt)
        return [
            results.get(index) or self._look_again(work[index][0], features[index], options[index], doubted[index])
            for index in range(len(work))
        ]

    def _look_again(
        self,
        window: Window,
        feature: np.ndarray,
        option: tuple[Options, float | None],
        doubted: Sequence[Attempt],
    ) -> WindowResult:
        """Decode a doubtful window on the full 30 s, with a beam, then with rising temperature; keep the best."""
        options = option[0]
        encoded = self._encode([feature], Look("full"))
        looks = [Look("beam", beam_size=options.beam_size or self._beam_size)]
        looks += [Look(f"temperature {value}", temperature=value) for value in TEMPERATURES]
        agreed = _agreed(window, doubted)
        tried: list[Attempt] = []
        for look in looks:
            [draft] = self._drafts(encoded, [window.duration], [option], look)
            silent = draft.no_speech_prob > options.no_speech_threshold and draft.avg_logprob < guard.LOGPROB
            if silent:
                draft = replace(draft, tokens=(), text="")
            [words] = self._timings(encoded, [feature], [window], [option], [draft])
            tried.append(_attempt(window, draft, look, words))
            parts = halves(window) if self._leaves_out(tried[-1], options) else None
            believed = parts is None and _doubt(tried[-1], window, doubted, contested=agreed is not None) is None
            if silent or believed:
                break
            if agreed is not None:
                tried.append(agreed)
                break
            if parts is not None:
                found = self._group([(part, options) for part in parts])
                return WindowResult(found[0].segments + found[1].segments, draft.language, option[1], "halves")
        else:  # none is beyond doubt: as Whisper does, the likeliest of those that do not repeat themselves
            calm = [one for one in tried if guard.compression_ratio(one.draft.text) <= guard.COMPRESSION_RATIO]
            tried.append(max(calm or tried, key=lambda one: one.draft.avg_logprob))
        return self._result(window, tried[-1], options)

    def _drafts(
        self,
        encoded: ctranslate2.StorageView,
        seconds: Sequence[float],
        options: Sequence[tuple[Options, float | None]],
        look: Look,
    ) -> list[Draft]:
        """Decode the windows of an encoded batch; their prompts have one length."""
        prompts = [self._prompt(option) for option, _ in options]
        short = look.floor < FULL
        most = max(
            guard.budget(length, option.language or "en", short=short)
            for length, (option, _) in zip(seconds, options, strict=True)
        )
        found = self._model.generate(
            encoded,
            prompts,
            beam_size=look.beam_size,
            num_hypotheses=BEST_OF if look.temperature else 1,
            sampling_topk=0 if look.temperature else 1,
            sampling_temperature=look.temperature or 1.0,
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
        options: Sequence[tuple[Options, float | None]],
        drafts: Sequence[Draft],
    ) -> list[align.Timings]:
        """Return the aligned words of the windows that want them, and nothing for the others; times in seconds."""
        wanted = [
            bool(draft.tokens)
            and (align.wants_words(window, option, draft.text) or guard.must_align(draft, window.spoken))
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

    @staticmethod
    def _result(window: Window, attempt: Attempt, options: Options) -> WindowResult:
        draft = attempt.draft
        if hallucinations.hallucinated(draft):
            draft = replace(draft, tokens=(), text="")
        segments = align.segments(window, draft, attempt.words, keep_words=options.word_timestamps)
        return WindowResult(segments, draft.language, draft.language_probability, attempt.look.name)

    def _leaves_out(self, attempt: Attempt, options: Options) -> bool:
        """Tell whether a full look is missing something that smaller windows would have."""
        full = len(attempt.draft.tokens) >= min(MOST_TOKENS // 2, MOST_TOKENS - len(self._prompt(options))) - 1
        return full or guard.omits(attempt.draft, attempt.longest_word, attempt.untold)

    def _features(self, audio: np.ndarray) -> np.ndarray:
        """Return the log-Mel spectrogram, float32 of shape (bands, frames)."""
        feature: np.ndarray = self._whisper.feature_extractor(audio)[..., :-1]  # the last frame is the extractor's own
        return feature

    def _encode(self, features: Sequence[np.ndarray], look: Look) -> ctranslate2.StorageView:
        """Return the encoder's output, of shape (windows, frames / 2, d_model)."""
        longest = max(feature.shape[1] for feature in features)
        frames = min(FULL, max(look.floor, longest + look.margin + (longest + look.margin) % 2))
        shown = [padded(feature, frames, silence=look.silence) for feature in features]
        if self.device == "cpu" and len(shown) > 1:  # one at a time stays in the cache: up to 1.7 times as fast
            rows = [np.asarray(self._whisper.encode(feature)) for feature in shown]
            return ctranslate2.StorageView.from_array(np.concatenate(rows))
        return self._whisper.encode(np.stack(shown))

    def _with_languages(
        self, encoded: ctranslate2.StorageView, features: Sequence[np.ndarray], options: Sequence[Options]
    ) -> list[tuple[Options, float | None]]:
        """Return the options with a language each, and its probability where it had to be detected."""
        if not self._model.is_multilingual:
            return [(replace(option, language="en"), None) for option in options]
        if all(option.language for option in options):
            return [(option, None) for option in options]
        guesses = [row[0] for row in self._model.detect_language(encoded)]
        unsure = [
            index
            for index, (option, (_, probability)) in enumerate(zip(options, guesses, strict=True))
            if not option.language and probability < SURE
        ]
        if unsure:
            again = self._model.detect_language(self._encode([features[index] for index in unsure], AS_IT_COMES))
            for index, row in zip(unsure, again, strict=True):
                guesses[index] = row[0]
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
            room = most - min(most, len(tokenizer.encode(" " + hotwords)))
            previous = previous[-room:] if room else []
        prompt: list[int] = self._whisper.get_prompt(tokenizer, previous, without_timestamps=True, hotwords=hotwords)
        return prompt


def _room_for(tokens: int, prompt: Sequence[int]) -> int:
    """Return CTranslate2's `max_length` for so many tokens of text: the prompt counts, the text gets half at most."""
    return min(MOST_TOKENS, tokens + max(tokens, len(prompt)))


def _attempt(window: Window, draft: Draft, look: Look, words: align.Timings) -> Attempt:
    longest = max((align.voiced(window, word) for word in words), default=0.0)
    silent = draft.short and not draft.tokens  # then all that was said is untold
    untold = align.untold(window, words) if words or silent else 0.0
    return Attempt(draft, look, words, longest, untold, align.longest_instant(words))


def _doubt(attempt: Attempt, window: Window, doubted: Sequence[Attempt] = (), *, contested: bool = False) -> str | None:
    return guard.doubt(
        attempt.draft,
        window.duration,
        window.spoken,
        longest_word=attempt.longest_word,
        untold=attempt.untold,
        instant=attempt.instant,
        earlier=[one.draft for one in doubted],
        contested=contested,
    )


def _agreed(window: Window, doubted: Sequence[Attempt]) -> Attempt | None:
    """Return the last of several looks if it is doubted for nothing but a repetition that another one has too."""
    if len(doubted) > 1 and _doubt(doubted[-1], window, doubted[:-1]) is None:
        return doubted[-1]
    return None


def _picked(encoded: ctranslate2.StorageView, rows: Sequence[int]) -> ctranslate2.StorageView:
    """Return these windows of a batch that the CPU encoded."""
    return ctranslate2.StorageView.from_array(np.asarray(encoded)[list(rows)])
