"""Turns a transcript into a validated summary: the one face of this room.

One call of `Enricher.enrich` is one try. What fails for now is raised with the delay after which to come back, so that
the wait is the queue's and not a thread's; what was finished meanwhile is in Redis and is not done again.
"""

from __future__ import annotations

import json
import random
import time
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
import structlog

from config.settings import Settings
from pipeline.enrich import failures, gate, gemini, parts, prices, prompt, record, redact, schema
from pipeline.enrich.gemini import Refusal, Reply, Request, Turn
from pipeline.enrich.neutral import neutralise
from pipeline.enrich.prompt import Prompt
from pipeline.enrich.schema import CLEANED, Contract, UnfitAnswer
from voicemill.errors import ErrorCode, JobError

# A job's own back-off, by Google's advice exponential, with the growth that its HTTP client for Java comes with: where
# doubled, the fifth 503 that chance gives to one job kept it away for 16 s that no other job had to wait.
MIN_BACKOFF = 1.0  # seconds after the first failure
GROWTH = 1.5  # for each one after
MAX_BACKOFF = 60.0
ROOM = 1000  # characters that any field may have beyond twice the transcript's own
MAX_PARTS = 200  # of one transcript; 8,000 tokens each are five days of speech
MEMORY = 3600.0  # seconds that finished parts outlast ENRICH_DEADLINE

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """One job's text on its way: what every request about it has in common."""

    job_id: str
    text: str  # masked, where ENRICH_REDACT is on
    language: str | None
    metadata: Any
    now: datetime
    prompt: Prompt
    model: str
    part_prompt: Prompt
    contract: Contract  # of the summary; its check sees what was masked


class Enricher:
    """Writes summaries with the operator's prompt, schema, model and limits. Safe to use from many threads.

    Raises:
        SettingsError: at construction, where prompt, schema, key, SDK or country are not as they should be.
    """

    def __init__(self, settings: Settings) -> None:
        self.model = settings.gemini_model.removeprefix("models/")
        self._settings = settings
        if settings.enrich_redact:
            redact.check(settings.enrich_redact_region)
        self._contract = schema.load(settings.enrich_schema)
        self._prompt = prompt.load(settings.enrich_prompt)
        self._part_prompt = prompt.load(prompt.FOLDER / "part.txt")
        self._gate = gate.of_settings(settings)
        self._gemini = gemini.connect(settings)
        self._ttl = settings.enrich_deadline + MEMORY
        self._brief = schema.of_model(schema.Notes if self._contract.cleaned else schema.BriefNotes)

    def enrich(
        self,
        job_id: str,
        transcript: dict[str, Any],
        *,
        metadata: Any = None,
        prompt_file: str | Path | None = None,
        model: str | None = None,
    ) -> dict[str, Any]:
        """Return the enrichment of a transcript, as the job record keeps it.

        Args:
            job_id: whose parts and account are kept in Redis until it is done.
            transcript: with `text` and, where known, `language`.
            metadata: the sender's own.
            prompt_file: another prompt than `ENRICH_PROMPT`.
            model: another model than `GEMINI_MODEL`.

        Returns:
            The fields of the schema, and `model` and what `record.close` says.

        Raises:
            JobError: `enrich_…` or `redis_unavailable`, with `retry_after` where another try is worth it; where not,
                the job's account is the caller's to close.
            SettingsError: there is no such prompt file, or it is wrong.
        """
        vault = redact.Vault(self._settings.enrich_redact_region)
        hide = vault.mask if self._settings.enrich_redact else lambda value: value
        check = self._contract.check
        words = self._prompt if prompt_file is None else prompt.load(prompt_file, "--prompt")
        task = Task(
            job_id=job_id,
            text=hide(str(transcript.get("text", "")).strip()),
            language=self._settings.enrich_language or transcript.get("language"),
            metadata=hide(metadata),
            now=datetime.now(UTC),
            prompt=words,
            part_prompt=prompt.of_parts(self._part_prompt, words, self._contract.schema),
            model=(model or self.model).removeprefix("models/"),
            contract=replace(self._contract, check=lambda value: check(vault.restore(value))),
        )
        try:
            document, model = self._document(task)
            spent = store.spending.close(job_id, parts=True)
            store.spending.count_job()
        except JobError:
            raise
        except redis.RedisError as error:
            reason = f"enrichment cannot reach Redis: {type(error).__name__}"
            raise JobError(ErrorCode.REDIS_UNAVAILABLE, reason, retry_after=MIN_BACKOFF) from None
        except Exception as error:  # noqa: BLE001 - a fault of ours or an SDK's must not cost the job its transcript
            raise self._fault(task, error) from None
        limit = 2 * len(task.text) + ROOM
        enrichment: dict[str, Any] = vault.restore(neutralise(document, limit))
        enrichment |= {"model": model or task.model, **spent}
        log.info(
            "Summary written", **{name: enrichment[name] for name in ("model", "tries", "latency")}, **spent["usage"]
        )
        return enrichment

    def _document(self, task: Task) -> tuple[dict[str, Any], str]:
        """Return the summary of the whole, made of notes where the text is long, and the model that told its name."""
        count = self._parts_needed(task)
        if count == 1:
            return self._ask(task, task.prompt, task.text, task.contract)
        notes = self._notes(task, count)
        if task.contract.cleaned and len(task.contract.schema["properties"]) == 1:
            return _joined(task.contract, notes), ""  # nothing is left to ask for, and Gemini takes no empty schema
        while len(notes) > 1 and parts.estimate("".join(note["notes"] for note in notes)) > 4 * self._part_tokens:
            notes = self._condensed(task, notes)
        reading = "\n\n".join(
            f"Part {number} of {len(notes)}, notes: {note['notes']}" for number, note in enumerate(notes, 1)
        )
        contract = task.contract
        if contract.cleaned:
            contract = contract.with_cleaned(_cleaned(notes))
        return self._ask(task, task.prompt, reading, contract)

    @property
    def _part_tokens(self) -> int:
        return self._settings.enrich_part_tokens

    def _parts_needed(self, task: Task) -> int:
        """Return in how many parts the text is to be read; Gemini counts the tokens where that could decide."""
        if parts.estimate(task.text) <= self._part_tokens:
            return 1
        name = record.digest("tokens", task.model, task.text)
        tokens = record.stored(task.job_id, name)
        if tokens is None:
            # Counting takes nothing from Google's limit of tokens, and so nothing from ours.
            tokens = self._send(task, 0, lambda: self._gemini.count(task.model, task.text))
            record.store(task.job_id, name, tokens, self._ttl)
        return min(MAX_PARTS, max(1, -(-int(tokens) // self._part_tokens)))

    def _notes(self, task: Task, count: int) -> list[dict[str, Any]]:
        """Return notes of each part of the text, those of earlier tries included."""
        return [self._note(task, piece, self._brief) for piece in parts.split(task.text, count)]

    def _condensed(self, task: Task, notes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return fewer notes: half as many, each of the notes of two neighbours."""
        condensed = []
        for first in range(0, len(notes), 2):
            pair = notes[first : first + 2]
            text = "\n\n".join(note["notes"] for note in pair)
            note = self._note(task, text, schema.of_model(schema.BriefNotes)) if len(pair) > 1 else dict(pair[0])
            if self._contract.cleaned:
                note[CLEANED] = _cleaned(pair)
            condensed.append(note)
        return condensed

    def _note(self, task: Task, text: str, contract: Contract) -> dict[str, Any]:
        name = record.digest(
            task.model, task.part_prompt.template.template, contract.schema, task.language, task.metadata, text
        )
        note: dict[str, Any] | None = record.stored(task.job_id, name)
        if note is None:
            note, _model = self._ask(task, task.part_prompt, text, contract)
            record.store(task.job_id, name, note, self._ttl)
        return note

    def _ask(self, task: Task, words: Prompt, text: str, contract: Contract) -> tuple[dict[str, Any], str]:
        """Return Gemini's answer to one prompt, checked, and its model; one that does not fit is sent back once."""
        mark = prompt.new_mark()
        said = words.render(text, language=task.language, metadata=task.metadata, now=task.now, data=mark)
        request = Request(
            model=task.model,
            system=prompt.guard(mark, masked=self._settings.enrich_redact),
            turns=(Turn("user", said),),
            schema=contract.schema,
            max_output_tokens=self._settings.gemini_max_output_tokens,
        )
        name = record.digest("spoiled", task.model, words.template.template, contract.schema, text)
        spoiled = record.stored(task.job_id, name)  # by an earlier try, which had to wait for leave to ask again
        if spoiled is None:
            reply = self._generate(task, request)
            try:
                return contract.parse(_whole(reply)), reply.model
            except UnfitAnswer as unfit:
                spoiled = {"answer": reply.text, "problems": str(unfit)}
            except JobError as error:
                if error.code != "enrich_empty":
                    raise error from None
                spoiled = {"answer": "", "problems": error.message}
            log.warning("Answer does not fit the schema; asking once more", problems=spoiled["problems"])
            record.store(task.job_id, name, spoiled, self._ttl)
        if spoiled["answer"]:
            request = replace(request, turns=(*request.turns, *_complaint(**spoiled)))
        reply = self._generate(task, request)
        record.drop(task.job_id, name)
        try:
            return contract.parse(_whole(reply)), reply.model
        except UnfitAnswer as unfit:
            raise JobError(ErrorCode.ENRICH_INVALID_ANSWER, str(unfit)) from None
        except JobError as error:
            raise error from None

    def _generate(self, task: Task, request: Request) -> Reply:
        reply: Reply = self._send(
            task,
            parts.estimate(request.text),
            lambda: self._gemini.generate(request),
            lambda reply: (reply.input_tokens, reply.output_tokens, reply.model),
        )
        return reply

    def _send(self, task: Task, tokens: int, call: Any, used: Any = None) -> Any:
        """Make one request: through the gate, on the account, its failure told apart.

        Args:
            task: whose request it is.
            tokens: of its input, estimated.
            call: makes the request.
            used: says of its answer how many tokens it took in and gave out, and which model answered; None: it only
                counts tokens.

        Raises:
            JobError: the request may not go yet, or went wrong.
        """
        if record.unwanted(task.job_id):
            raise JobError(ErrorCode.ENRICH_NO_TRANSCRIPT, "the job was deleted or cancelled meanwhile")
        passage = self._gate.enter(task.job_id, tokens, task.model)
        began = time.monotonic()
        try:
            answer = call()
        except Refusal as refusal:
            seconds = time.monotonic() - began
            error = failures.of_refusal(refusal)
            outage, everybodys = failures.is_outage(error), error.code == "enrich_quota_exhausted"
            if outage:
                self._gate.failed(passage, unreachable=refusal.kind == "unreachable")
                everybodys = passage.probe
            elif error.code != "enrich_rate_limited":
                self._answered(passage, None if used is None else 0)
            bad = record.Spent(1, 0 if everybodys else 1, outages=int(outage), seconds=seconds, wrong=1)
            spent = store.spending.add(task.job_id, self._ttl, bad)
            limited = error.code == "enrich_rate_limited"
            # On the account first, so that another job's refusal, a moment later, can take it off again.
            if limited and (faultless := self._gate.refused(passage, task.job_id, error.retry_after)):
                record.forgive(faultless)
                everybodys, spent = True, store.spending.of_job(task.job_id)
            raise self._after(task, error, spent, everybodys=everybodys) from None
        tokens_in, tokens_out, model = used(answer) if used else (0, 0, "")
        self._answered(passage, tokens_in if used else None)
        cost = prices.cost((model, task.model), tokens_in, tokens_out)
        seconds = time.monotonic() - began
        store.spending.add(task.job_id, self._ttl, record.Spent(1, 0, 0, tokens_in, tokens_out, seconds, cost))
        return answer

    def _answered(self, passage: gate.Passage, tokens: int | None) -> None:
        """Tell the gate of an answer to a request of so many `tokens` (0: not known; None: it only counted them)."""
        if tokens is None:
            self._gate.counted(passage)
        else:
            self._gate.succeeded(passage, tokens)

    def _after(self, task: Task, error: JobError, spent: record.Spent, *, everybodys: bool) -> JobError:
        """Return the error with the time after which to try again, where that is worth it.

        What is `everybodys` trouble is not held against the job.
        """
        log.warning("Gemini failed", code=error.code, tries=spent.tries)
        if error.code == "enrich_quota_exhausted":
            error.retry_after = self._gate.pause(error.retry_after or failures.until_midnight(), task.model)
            return error
        if error.code == "enrich_unknown_model":
            return self._with_known_models(error)
        if not error.retryable:
            return error
        if not everybodys and spent.failures >= self._settings.enrich_tries:
            gave_up = f"{spent.failures} requests failed; last: {error.code}: {error.message}"
            return JobError(ErrorCode.ENRICH_GAVE_UP, gave_up)
        # What all jobs suffer from is the gate's to wait out: a job's own back-off grows with its own bad luck alone.
        times = spent.outages if failures.is_outage(error) else spent.failures
        backoff = min(MAX_BACKOFF, MIN_BACKOFF * GROWTH ** (max(1, times) - 1))
        jitter = random.uniform(1.0, 1.1)  # noqa: S311 - it spreads load, no more
        error.retry_after = jitter * (error.retry_after or backoff)
        return error

    def _fault(self, task: Task, error: Exception) -> JobError:
        """Return the error that an unforeseen one is, which counts among the job's tries like any other."""
        where = _place(error)  # and no more of it: an SDK's messages quote what was sent
        log.error("Enrichment has a fault", kind=type(error).__name__, at=where)
        fault = JobError(ErrorCode.ENRICH_INTERNAL, f"{type(error).__name__} at {where}", retry_after=MAX_BACKOFF)
        if store.spending.add(task.job_id, self._ttl, record.Spent(failures=1)).failures < self._settings.enrich_tries:
            return fault
        fault.retry_after = None
        return fault

    def _with_known_models(self, error: JobError) -> JobError:
        try:
            known = failures.words(", ".join(self._gemini.models()))[: failures.MODELS]
        except Refusal:
            known = ""
        return error if not known else JobError(error.code, f"{error.message}. The key may use: {known}")


def _place(error: Exception) -> str:
    """Return the file and line that raised an exception."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _whole(reply: Reply) -> str:
    """Return an answer's text.

    Raises:
        JobError: it is blocked, cut off or empty.
    """
    error = failures.of_reply(reply)
    if error is not None:
        raise error
    return reply.text


def _cleaned(notes: list[dict[str, Any]]) -> str:
    """Return the cleaned-up text of all parts."""
    return "\n\n".join(note[CLEANED] for note in notes)


def _joined(contract: Contract, notes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the document whose only field is the cleaned-up text.

    Raises:
        JobError: `enrich_invalid_answer`.
    """
    try:
        return contract.parse(json.dumps({CLEANED: _cleaned(notes)}))
    except UnfitAnswer as unfit:
        raise JobError(ErrorCode.ENRICH_INVALID_ANSWER, str(unfit)) from None


def _complaint(answer: str, problems: str) -> tuple[Turn, Turn]:
    """Return the repair round: the answer, and what is wrong with it."""
    wrong = (
        f"This answer does not fit the schema: {problems}. "
        "Give the whole answer again, as JSON that fits, and nothing else."
    )
    return Turn("model", answer), Turn("user", wrong)
