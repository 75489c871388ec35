"""The client: send voice messages to the stages, and read, follow and manage their jobs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from redis import RedisError

from voicemill.address import Address
from voicemill.admission import Sender
from voicemill.config import ClientConfig
from voicemill.errors import JobError, Refused, UnknownJob
from voicemill.job import Event, Job
from voicemill.lifecycle import STAGES, WEBHOOK, Status
from voicemill.options import parse
from voicemill.status import SystemStatus
from voicemill.status import read as read_status
from voicemill.store import Store

Data = bytes | BinaryIO | Path


class Upload(str):  # noqa: SLOT000 - mypy knows no slots of text
    """The source of an upload, `upload:<id>`, and the file's name."""

    filename: str | None

    def __new__(cls, source: str, filename: str | None = None) -> Self:  # noqa: D102
        made = super().__new__(cls, source)
        made.filename = filename
        return made


class Client:
    """A client of the Voicemill whose Redis is at `url`. It may be shared by threads, and used after a fork.

    Args:
        url: `redis://HOST:PORT/NUMBER`, `rediss://` for TLS, or `unix://PATH`. None: everything is taken from the
            environment: `REDIS_URL` with its user name, password and CA, and the limits.
        config: the configuration as a whole, in place of `url` and `options`.
        options: other fields of `ClientConfig`, and `username`, `password` and `ca_certs` of the address.

    Raises:
        JobError: `invalid_settings`: a variable of the environment is wrong.
        TypeError: there is no such option.
    """

    def __init__(self, url: str | None = None, *, config: ClientConfig | None = None, **options: Any) -> None:
        self._store = Store(config or _configured(url, options))
        self._sender = Sender(self._store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.config.address.masked!r})"

    @property
    def config(self) -> ClientConfig:
        """The configuration of this client."""
        return self._store.config

    @property
    def store(self) -> Store:
        """The store behind this client, for Voicemill's own packages. Its interface may change in any version."""
        return self._store

    def close(self) -> None:
        """Close the connections. The client connects again if it is used later."""
        self._store.close()

    def send(self, source: str, /, **options: Any) -> Job:
        """Send a voice message and return its job, which is `queued`.

        Args:
            source: a path under the workers' `MEDIA_ROOT`, a URL, or what `upload` returned.
            options: of the job: voicemill/options.py.

        Raises:
            Refused: the source, an option or the state of the system forbids it; nothing was sent.
        """
        filename, metadata = getattr(source, "filename", None), options.get("metadata")
        if filename is not None and (metadata is None or isinstance(metadata, dict)):
            options["metadata"] = {"filename": filename, **(metadata or {})}
        return self._sender.send(str(uuid.uuid4()), (source,), options)

    def upload(self, data: Data, filename: str | None = None) -> Upload:
        """Store the bytes of a voice message for `handoff_ttl`, and return the source to send.

        Args:
            data: the bytes, a file open for reading, or the path of one.
            filename: what people call it; the job's metadata keeps it as `filename`, unless that is no object.

        Raises:
            Refused: `source_too_large`, `handoff_full`, `handoff_unavailable` or `redis_unavailable`.
            OSError: the file cannot be read.
            TypeError: `data` is text; a path is a `pathlib.Path`.
        """
        if isinstance(cast("Any", data), str):
            raise TypeError("data is text: pass bytes, a file open for reading, or pathlib.Path(...)")
        try:
            if isinstance(data, Path):
                with data.open("rb") as file:
                    return Upload(self._store.audio.upload(file), filename or data.name)
            return Upload(self._store.audio.upload(data), filename)
        except JobError as error:
            raise Refused(error.code, error.message) from None
        except RedisError as error:
            raise self._sender.refusal(error) from error

    def send_file(self, data: Data, /, filename: str | None = None, **options: Any) -> Job:
        """Upload a voice message, send it and return its job; if that fails, nothing of it is kept.

        Raises:
            Refused: an option, the size or the state of the system forbids it; nothing was sent.
            OSError: the file cannot be read.
            TypeError: `data` is text; a path is a `pathlib.Path`.
        """
        try:
            parse(options)  # before the bytes are stored
        except JobError as error:
            raise Refused(error.code, error.message) from None
        source = self.upload(data, filename)
        try:
            return self.send(source, **options)
        except BaseException:
            with suppress(JobError, RedisError):
                self._store.audio.delete_upload(source)
            raise

    def get(self, job_id: str) -> Job:
        """Return a job's record.

        Raises:
            UnknownJob: there is no such job.
        """
        return self._store.jobs.get(job_id)

    def wait(self, job_id: str, timeout: float | None = None, until: str = Status.DONE) -> Job:
        """Wait for a job to end, or with `until="transcribed"` for its transcript, and return its record.

        Raises:
            UnknownJob: there is no such job.
            TimeoutError: it has not come so far within `timeout` seconds.
            ValueError: `until` is neither of the two.
        """
        return self._store.jobs.wait(job_id, timeout, until)

    def events(self, job_id: str, timeout: float | None = None) -> Iterator[Event]:
        """Yield all events of a job, past and live, until it has ended.

        Raises:
            UnknownJob: there is no such job, or it was deleted meanwhile.
            TimeoutError: it has not ended within `timeout` seconds.
        """
        return self._store.jobs.events(job_id, timeout)

    def list(self, status: str | None = None, *, limit: int = 50, before: str | None = None) -> list[Job]:
        """Return jobs, the newest first.

        Args:
            status: of the jobs; None: any.
            limit: how many at most.
            before: id of a job: only jobs that were created before it. The last id of a page leads to the next page.

        Raises:
            ValueError: there is no such status, or `limit` is less than 1.
            UnknownJob: the job `before` does not exist any more.
        """
        return self._store.jobs.page(status, limit=limit, before=before)

    def cancel(self, job_id: str) -> bool:
        """End a job as `cancelled`; the result of running work is discarded. Return False if it had ended already.

        Raises:
            UnknownJob: there is no such job.
        """
        return self._store.jobs.cancel(job_id)

    def retry(self, job_id: str) -> Job:
        """Send a failed job, or the failed delivery of its webhook, to where its work can go on; return its record.

        Raises:
            UnknownJob: there is no such job, or nothing of it failed.
            JobError: `system_full`.
        """
        queues = self._store.queues
        for stage in (*STAGES, WEBHOOK):
            dead = queues.dead_letter(stage, job_id)
            if dead is not None and queues.retry(dead) is not None:
                return self.get(job_id)
        raise UnknownJob(job_id)

    def delete(self, job_id: str) -> None:
        """Remove every trace of a job: record, results, events, audio, upload and messages.

        Raises:
            UnknownJob: there is no such job.
        """
        self._store.jobs.delete(job_id)

    def status(self) -> SystemStatus:
        """Return how the stages are doing: workers, queues, times."""
        return read_status(self._store)


def _configured(url: str | None, options: dict[str, Any]) -> ClientConfig:
    login = {name: options.pop(name) for name in ("username", "password", "ca_certs") if name in options}
    if url is None:
        config = ClientConfig.from_environment()
        return replace(config, address=replace(config.address, **login), **options)
    return ClientConfig(address=Address(url, **login), **options)
