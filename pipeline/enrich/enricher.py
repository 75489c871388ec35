"""Turns a transcript into a validated summary, with any provider.

One call of `Enricher.enrich` is one attempt. A passing failure is raised with the delay before the next attempt, so
that the job waits in the queue and not in a thread; parts that were finished are kept in Redis and not repeated.
"""

from __future__ import annotations

import json
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import redis
import structlog

from config.settings import Settings
from pipeline.enrich import memory, parts, prompt, providers, redact, schema
from pipeline.enrich.limiter import Permit, RequestLimiter
from pipeline.enrich.prompt import Prompt
from pipeline.enrich.providers.base import (
    OUTAGES,
    ErrorKind,
    ModelReply,
    ModelRequest,
    Provider,
    ProviderError,
    Turn,
)
from pipeline.enrich.sanitize import one_line, sanitize
from pipeline.enrich.schema import CLEANED, Contract, InvalidAnswer
from voicemill.errors import ErrorCode, JobError
from voicemill.job import Enrichment
from voicemill.store import Store
from voicemill.store.spending import Spent
from voicemill.transcript import Transcript

EXTRA_LENGTH = 1000  # characters that any field may have beyond twice the transcript's length
MAX_PARTS = 200  # of one transcript; 8,000 tokens each are five days of speech
PARTS_TTL = 3600.0  # seconds that finished parts are kept beyond ENRICH_DEADLINE
MAX_MODEL_NAMES = 2000  # characters of the list of models in an error message

Answer = TypeVar("Answer", ModelReply, int)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay after a job's own failures.

    The growth is that of Google's HTTP client for Java: with doubling, a fifth 503 by chance kept one job waiting for
    16 s that no other job had to wait.
    """

    minimum: float = 1.0  # seconds, after the first failure
    growth: float = 1.5  # with each further one
    maximum: float = 60.0  # seconds

    def after(self, failures: int) -> float:
        """Return the seconds to wait after so many failures."""
        return min(self.maximum, self.minimum * self.growth ** (max(1, failures) - 1))


@dataclass(frozen=True, slots=True)
class SummaryTask:
    """What all requests about one job have in common."""

    job_id: str
    text: str  # masked, where ENRICH_REDACT is on
    language: str | None
    metadata: Any
    now: datetime
    prompt: Prompt
    model: str
    part_prompt: Prompt
    contract: Contract  # of the summary; its check restores what was masked


class Enricher:
    """Writes summaries with the operator's prompt, schema, model and limits. Safe to use from many threads.

    Args:
        settings: the operator's.
        store: of the jobs, their accounts and the state of the limiter.
        provider: that writes the summaries; None: the one that the settings select.
        limiter: of requests to the provider; None: one with the provider's limits.
        backoff: after a job's own failures.

    Raises:
        NotConfigured: at construction: the provider's key is unset.
        SettingsError: at construction: the prompt, schema, provider or country in the settings is invalid.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        provider: Provider | None = None,
        limiter: RequestLimiter | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings, self._store, self._memory = settings, store, memory.Memory(store)
        if settings.enrich_redact:
            redact.check(settings.enrich_redact_region)
        self._contract = schema.load(settings.enrich_schema)
        self._prompt = prompt.load(settings.enrich_prompt)
        self._part_prompt = prompt.load(prompt.FOLDER / "part.txt")
        self._provider = provider or providers.connect(settings)
        options = self._provider.options
        self.model = options.model
        self._limiter = limiter or RequestLimiter(store, options.requests_per_minute, options.tokens_per_minute)
        self._backoff = backoff or Backoff()
        reading = self._provider.capabilities.context_tokens // 2  # the other half is for the prompt and the answer
        self._part_tokens = min(settings.enrich_part_tokens, reading)
        self._notes_tokens = min(4 * self._part_tokens, reading)
        self._ttl = settings.enrich_deadline + PARTS_TTL
        self._notes_contract = schema.of_model(schema.Notes if self._contract.cleaned else schema.BriefNotes)

    def enrich(
        self,
        job_id: str,
        transcript: Transcript,
        *,
        metadata: Any = None,
        prompt_file: str | Path | None = None,
        model: str | None = None,
    ) -> Enrichment:
        """Return the enrichment of a transcript.

        Args:
            job_id: whose parts and account are kept in Redis until it is done.
            transcript: the job's.
            metadata: the sender's.
            prompt_file: replaces `ENRICH_PROMPT`.
            model: replaces the one in the settings.

        Raises:
            JobError: `enrich_…` or `redis_unavailable`, with `retry_after` where another attempt may help; otherwise
                the caller closes the job's account.
            SettingsError: the prompt file is missing or invalid.
        """
        vault = redact.Vault(self._settings.enrich_redact_region)
        hide = vault.mask if self._settings.enrich_redact else lambda value: value
        check = self._contract.check
        summary_prompt = self._prompt if prompt_file is None else prompt.load(prompt_file, "--prompt")
        task = SummaryTask(
            job_id=job_id,
            text=hide(transcript.text.strip()),
            language=self._settings.enrich_language or transcript.language,
            metadata=hide(metadata),
            now=datetime.now(UTC),
            prompt=summary_prompt,
            part_prompt=prompt.of_parts(self._part_prompt, summary_prompt, self._contract.schema),
            model=self._provider.model_id(model or self.model),
            contract=replace(self._contract, check=lambda value: check(vault.restore(value))),
        )
        try:
            document, model = self._document(task)
            spent = self._store.spending.close(job_id, parts=True)
            self._store.spending.count_job()
        except JobError:
            raise
        except redis.RedisError as error:
            reason = f"enrichment cannot reach Redis: {type(error).__name__}"
            raise JobError(ErrorCode.REDIS_UNAVAILABLE, reason, retry_after=self._backoff.minimum) from None
        except Exception as error:  # noqa: BLE001 - a bug here or in an SDK must not cost the job its transcript
            raise self._internal_error(task, error) from None
        limit = 2 * len(task.text) + EXTRA_LENGTH
        fields: dict[str, Any] = vault.restore(sanitize(document, limit))
        enrichment = Enrichment.from_dict(fields | {"model": model or task.model, **spent})
        written = {name: getattr(enrichment, name) for name in ("model", "tries", "latency")}
        log.info("Summary written", **written, **spent["usage"])
        return enrichment

    def _document(self, task: SummaryTask) -> tuple[dict[str, Any], str]:
        """Return the summary and the version of the model; a long transcript is summarized from notes on its parts."""
        count = self._parts_needed(task)
        if count == 1:
            return self._ask(task, task.prompt, task.text, task.contract)
        notes = self._notes(task, count)
        if task.contract.cleaned and len(task.contract.schema["properties"]) == 1:
            return _joined(task.contract, notes), ""  # no other field is left to ask for
        while len(notes) > 1 and parts.estimate("".join(note["notes"] for note in notes)) > self._notes_tokens:
            notes = self._condensed(task, notes)
        reading = "\n\n".join(
            f"Part {number} of {len(notes)}, notes: {note['notes']}" for number, note in enumerate(notes, 1)
        )
        contract = task.contract
        if contract.cleaned:
            contract = contract.with_cleaned(_cleaned(notes))
        return self._ask(task, task.prompt, reading, contract)

    def _parts_needed(self, task: SummaryTask) -> int:
        """Return the number of parts to read the text in."""
        tokens = parts.estimate(task.text)  # rather too high
        if tokens > self._part_tokens and self._provider.capabilities.counts_tokens:
            tokens = self._counted_tokens(task)
        return min(MAX_PARTS, max(1, -(-tokens // self._part_tokens)))

    def _counted_tokens(self, task: SummaryTask) -> int:
        """Return the tokens in the text, as the provider counts them."""
        name = memory.digest("tokens", task.model, task.text)
        stored: int | None = self._memory.stored(task.job_id, name)
        if stored is not None:
            return stored
        # Counting uses none of a provider's limit of tokens, so it takes none of the operator's either.
        tokens = self._send(task, 0, lambda: self._provider.count_tokens(task.model, task.text), only_counts=True)
        self._memory.keep(task.job_id, name, tokens, self._ttl)
        return tokens

    def _notes(self, task: SummaryTask, count: int) -> list[dict[str, Any]]:
        """Return the notes on each part of the text."""
        return [self._note(task, piece, self._notes_contract) for piece in parts.split(task.text, count)]

    def _condensed(self, task: SummaryTask, notes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return half as many notes, each condensed from two neighbours."""
        condensed = []
        for first in range(0, len(notes), 2):
            pair = notes[first : first + 2]
            text = "\n\n".join(note["notes"] for note in pair)
            note = self._note(task, text, schema.of_model(schema.BriefNotes)) if len(pair) > 1 else dict(pair[0])
            if self._contract.cleaned:
                note[CLEANED] = _cleaned(pair)
            condensed.append(note)
        return condensed

    def _note(self, task: SummaryTask, text: str, contract: Contract) -> dict[str, Any]:
        name = memory.digest(
            task.model, task.part_prompt.template.template, contract.schema, task.language, task.metadata, text
        )
        note: dict[str, Any] | None = self._memory.stored(task.job_id, name)
        if note is None:
            note, _model = self._ask(task, task.part_prompt, text, contract)
            self._memory.keep(task.job_id, name, note, self._ttl)
        return note

    def _ask(self, task: SummaryTask, template: Prompt, text: str, contract: Contract) -> tuple[dict[str, Any], str]:
        """Return the validated answer to one prompt and the model's version; ask once more where it is invalid."""
        request = self._request(task, template, text, contract)
        name = memory.digest("spoiled", task.model, template.template.template, contract.schema, text)
        invalid = self._memory.stored(task.job_id, name)  # of an earlier attempt that had to wait before asking again
        if invalid is None:
            reply = self._generate(task, request)
            try:
                return _parse(contract, reply), reply.model
            except InvalidAnswer as error:
                invalid = {"answer": reply.text, "problems": str(error)}
            except JobError as error:
                if error.code is not ErrorCode.ENRICH_EMPTY:
                    raise
                invalid = {"answer": "", "problems": error.message}
            log.warning("Answer invalid, asking for a repair", problems=invalid["problems"])
            self._memory.keep(task.job_id, name, invalid, self._ttl)
        if invalid["answer"]:
            request = replace(request, turns=(*request.turns, *_repair(**invalid)))
        reply = self._generate(task, request)
        self._memory.drop(task.job_id, name)
        try:
            return _parse(contract, reply), reply.model
        except InvalidAnswer as error:
            raise JobError(ErrorCode.ENRICH_INVALID_ANSWER, str(error)) from None

    def _request(self, task: SummaryTask, template: Prompt, text: str, contract: Contract) -> ModelRequest:
        mark = prompt.new_mark()
        text = template.render(text, language=task.language, metadata=task.metadata, now=task.now, data=mark)
        schema_by_prompt = None if self._provider.capabilities.json_schema else contract.schema
        return ModelRequest(
            model=task.model,
            system=prompt.guard(mark, masked=self._settings.enrich_redact, schema=schema_by_prompt),
            turns=(Turn("user", text),),
            schema=contract.schema,
            max_output_tokens=self._provider.options.max_output_tokens,
        )

    def _generate(self, task: SummaryTask, request: ModelRequest) -> ModelReply:
        return self._send(task, parts.estimate(request.text), lambda: self._provider.generate(request))

    def _send(self, task: SummaryTask, tokens: int, call: Callable[[], Answer], *, only_counts: bool = False) -> Answer:
        """Send one request, once the limiter permits, and add it to the job's account.

        Args:
            task: whose request it is.
            tokens: of its input, estimated.
            call: sends the request.
            only_counts: it counts tokens rather than generating text.

        Raises:
            JobError: the request may not be sent yet, or failed.
        """
        if self._memory.unwanted(task.job_id):
            raise JobError(ErrorCode.ENRICH_NO_TRANSCRIPT, "the job was deleted or cancelled meanwhile")
        permit = self._limiter.acquire(task.job_id, tokens, task.model)
        began = time.monotonic()
        try:
            answer = call()
        except ProviderError as error:
            seconds = time.monotonic() - began
            raise self._failed(task, permit, error, seconds, only_counts=only_counts) from None
        used, version = (0, 0), ""
        if isinstance(answer, ModelReply):
            used, version = (answer.input_tokens, answer.output_tokens), answer.model
        self._record_answer(permit, used[0], only_counts=only_counts)
        price = self._provider.price(version) or self._provider.price(task.model)
        cost = None if price is None else price.of(*used)
        seconds = time.monotonic() - began
        self._store.spending.add(task.job_id, self._ttl, Spent(1, 0, 0, *used, seconds, cost))
        return answer

    def _failed(
        self, task: SummaryTask, permit: Permit, error: ProviderError, seconds: float, *, only_counts: bool
    ) -> JobError:
        """Record a failed request, which took so many seconds; return the error for the job."""
        outage, limited = error.kind in OUTAGES, error.kind is ErrorKind.RATE_LIMITED
        # A failure that other jobs share does not count towards this job's attempts.
        shared = error.kind is ErrorKind.QUOTA_EXHAUSTED
        if outage:
            self._limiter.record_failure(permit, unreachable=error.unreachable)
            shared = permit.probe
        elif not limited:
            self._record_answer(permit, 0, only_counts=only_counts)
        failure = Spent(1, 0 if shared else 1, outages=int(outage), seconds=seconds, wrong=1)
        spent = self._store.spending.add(task.job_id, self._ttl, failure)
        # After the account, so that the next job's rate limit can take this failure off again.
        if limited and (innocent := self._limiter.record_rate_limit(permit, task.job_id, error.retry_after)):
            self._memory.forgive(innocent)
            shared, spent = True, self._store.spending.of_job(task.job_id)
        return self._job_error(task, error, spent, shared=shared)

    def _record_answer(self, permit: Permit, tokens: int, *, only_counts: bool) -> None:
        if only_counts:
            self._limiter.record_count(permit)
        else:
            self._limiter.record_success(permit, tokens)

    def _job_error(self, task: SummaryTask, error: ProviderError, spent: Spent, *, shared: bool) -> JobError:
        """Return the error for the job, with the delay before the next attempt if that may help."""
        log.warning("Provider request failed", provider=self._provider.name, code=error.kind.value, tries=spent.tries)
        job_error = JobError(error.kind.code, error.message)
        if error.kind is ErrorKind.QUOTA_EXHAUSTED:
            job_error.retry_after = self._limiter.pause(error.retry_after, task.model)
        elif error.kind is ErrorKind.UNKNOWN_MODEL:
            job_error = self._with_known_models(job_error)
        elif job_error.code.retryable and not shared and spent.failures >= self._settings.enrich_tries:
            gave_up = f"{spent.failures} requests failed; last: {job_error.code}: {error.message}"
            job_error = JobError(ErrorCode.ENRICH_GAVE_UP, gave_up)
        elif job_error.code.retryable:
            # The limiter waits out what all jobs share; this delay grows with the job's own failures alone.
            backoff = self._backoff.after(spent.outages if error.kind in OUTAGES else spent.failures)
            jitter = random.uniform(1.0, 1.1)  # noqa: S311 - it spreads load, no more
            job_error.retry_after = jitter * (error.retry_after or backoff)
        return job_error

    def _internal_error(self, task: SummaryTask, error: Exception) -> JobError:
        """Return the error for an unexpected exception, which counts towards the job's attempts."""
        where = _location(error)  # and not its message: those of SDKs quote the request
        log.error("Enrichment failed unexpectedly", kind=type(error).__name__, at=where)
        job_error = JobError(ErrorCode.ENRICH_INTERNAL, f"{type(error).__name__} at {where}")
        if self._store.spending.add(task.job_id, self._ttl, Spent(failures=1)).failures < self._settings.enrich_tries:
            job_error.retry_after = self._backoff.maximum
        return job_error

    def _with_known_models(self, error: JobError) -> JobError:
        try:
            known = one_line(", ".join(self._provider.list_models()))[:MAX_MODEL_NAMES]
        except ProviderError:
            known = ""
        return error if not known else JobError(error.code, f"{error.message}. The key may use: {known}")


def _location(error: Exception) -> str:
    """Return the file and line that raised an exception."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _parse(contract: Contract, reply: ModelReply) -> dict[str, Any]:
    """Return the document of an answer.

    Raises:
        InvalidAnswer: it does not fit the schema.
        JobError: it is blocked, cut off or empty, or the operator's validator failed.
    """
    if reply.error is not None:
        raise JobError(reply.error.kind.code, reply.error.message)
    return contract.parse(reply.text)


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
    except InvalidAnswer as error:
        raise JobError(ErrorCode.ENRICH_INVALID_ANSWER, str(error)) from None


def _repair(answer: str, problems: str) -> tuple[Turn, Turn]:
    """Return the turns that ask for a valid answer: the invalid one, and its problems."""
    request = (
        f"This answer does not fit the schema: {problems}. "
        "Give the whole answer again, as JSON that fits, and nothing else."
    )
    return Turn("model", answer), Turn("user", request)
