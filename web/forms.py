"""Forms and bodies of requests: read, checked, and sent as jobs."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from voicemill import Job, options
from voicemill.lifecycle import FIRST
from web.problems import RETRY_AFTER, Problem
from web.state import state_of

Model = TypeVar("Model", bound=BaseModel)
LARGE = 1024 * 1024  # bytes of a form from which room is checked before the form is read
FIELDS = 64  # of a form, at most; OpenAI's forms have a dozen

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it was received: the uploaded file, if there is one, and the values of each field."""

    file: UploadFile | None
    fields: dict[str, list[str]]

    def one(self, name: str) -> str | None:
        """Return the last value of a field."""
        return self.fields[name][-1] if name in self.fields else None


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Form]:
    """Read a form. A file of more than a megabyte is spooled to a temporary file while the form is in use.

    Raises:
        JobError: `system_full`, before a large form is read in vain; for a small one sending checks it.
        Problem: `disk_full`, or the form is invalid.
    """
    if int(request.headers.get("content-length", LARGE)) >= LARGE:
        await run_in_threadpool(state_of(request).client.store.queues.demand_room, FIRST)
    async with AsyncExitStack() as stack:
        try:
            form = await stack.enter_async_context(request.form(max_files=1, max_fields=FIELDS))
        except OSError as error:  # of the temporary file: nothing that a client does raises one
            log.warning("Upload not stored; free space or set TMPDIR", folder=tempfile.tempdir, reason=str(error))
            text = f"the server cannot store the upload: {error.strerror}. Free space in its temporary folder."
            raise Problem(503, "disk_full", text, retry_after=RETRY_AFTER) from None
        file, fields = None, dict[str, list[str]]()
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "file":
                    raise Problem(400, "invalid_request", "the upload must be in the field `file`", param=name)
                file = value
            else:
                fields.setdefault(name, []).append(value)
        yield Form(file, fields)


def check(model: type[Model], data: dict[str, Any] | bytes) -> Model:
    """Return what was sent as `model` describes it: the fields of a form, or the bytes of JSON.

    Raises:
        Problem: `invalid_request`, naming the field.
    """
    try:
        return model.model_validate_json(data) if isinstance(data, bytes) else model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else None
        raise Problem(400, "invalid_request", f"{name or 'the body'}: {first['msg']}", param=name) from None


async def send(request: Request, source: str, keywords: Mapping[str, Any]) -> Job:
    """Send a job whose source the workers fetch.

    Raises:
        JobError: an option is invalid.
        Refused: nothing was sent.
    """
    options.parse(keywords)
    return await run_in_threadpool(partial(state_of(request).client.send, source, **keywords))


async def send_file(
    request: Request, file: UploadFile | None, keywords: Mapping[str, Any], *, filename: str | None = None
) -> Job:
    """Store an uploaded file and send its job.

    Args:
        request: whose form has the file.
        file: the upload.
        keywords: the options.
        filename: kept in the job's metadata; None: nothing is.

    Raises:
        Problem: there is no file.
        JobError: an option is invalid.
        Refused: the file is too large, or the system is full; nothing was sent.
    """
    if file is None:
        raise Problem(400, "invalid_request", "file: the form has no file", param="file")
    options.parse(keywords)  # its names are checked before they become arguments
    return await run_in_threadpool(partial(state_of(request).client.send_file, file.file, filename, **keywords))
