"""How a message gets in: its form spooled to disk, its bytes into the handoff store, its job into the queue."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, TypeVar

import structlog
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from voicemill import decode, options
from web.problems import AGAIN, Problem

Model = TypeVar("Model", bound=BaseModel)
MUCH = 1024 * 1024  # bytes of a form
FIELDS = 64  # of a form, at most; OpenAI's have a dozen

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it came: the uploaded file, if there is one, and the values of each field."""

    file: UploadFile | None
    fields: dict[str, list[str]]

    def one(self, name: str) -> str | None:
        """Return the last value of a field."""
        return self.fields[name][-1] if name in self.fields else None


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Form]:
    """Read a form; while it is in use its file lies in a temporary one, in memory only up to a megabyte.

    Raises:
        JobError: `system_full`, told here before much is read for nothing; less waits for what sending says.
        Problem: `disk_full`, or one of those that reading may end with.
    """
    if int(request.headers.get("content-length", MUCH)) >= MUCH:
        await run_in_threadpool(store.queues.demand_room, "decode")
    async with AsyncExitStack() as stack:
        try:
            form = await stack.enter_async_context(request.form(max_files=1, max_fields=FIELDS))
        except OSError as error:  # of the temporary file: nothing that a client does raises one
            log.warning("No room for an upload: free some, or set TMPDIR", folder=tempfile.tempdir, reason=str(error))
            text = f"the door cannot keep the upload: {error.strerror}. Free space in its temporary folder."
            raise Problem(503, "disk_full", text, retry_after=AGAIN) from None
        file, fields = None, dict[str, list[str]]()
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "file":
                    raise Problem(400, "invalid_request", "the upload belongs into the field `file`", param=name)
                file = value
            else:
                fields.setdefault(name, []).append(value)
        yield Form(file, fields)


def check(model: type[Model], data: dict[str, Any] | bytes) -> Model:
    """Return what was sent, as `model` describes it: fields of a form, or the bytes of JSON.

    Raises:
        Problem: `invalid_request`, naming the field.
    """
    try:
        return model.model_validate_json(data) if isinstance(data, bytes) else model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else None
        raise Problem(400, "invalid_request", f"{name or 'the body'}: {first['msg']}", param=name) from None


async def send_file(file: UploadFile | None, keywords: dict[str, Any]) -> str:
    """Store an uploaded file, send it to decode, and return the job's id.

    Raises:
        Problem: there is no file.
        JobError: the options are not what they take, the file is too large, or the handoff store is full.
        Refused: nothing was sent.
    """
    if file is None:
        raise Problem(400, "invalid_request", "file: the form has none", param="file")
    options.parse(keywords)  # before the bytes go anywhere
    return await run_in_threadpool(_upload_and_send, file.file, keywords)


async def send(source: str, keywords: dict[str, Any]) -> str:
    """Send a source to decode and return the job's id.

    Raises:
        Refused: nothing was sent.
    """
    message = await run_in_threadpool(partial(decode.send, source, **keywords))
    return message.message_id


def _upload_and_send(file: BinaryIO, keywords: dict[str, Any]) -> str:
    with store.audio.uploaded(file) as source:
        return decode.send(source, **keywords).message_id
