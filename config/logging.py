"""How a log line looks, and what never gets into one: where structlog and the standard library meet."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET_NAME = re.compile(r"(?i)(password|secret|api_?key|authorization|(^|_)token$)")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+@")
_QUERY = re.compile(r"(\w+://[^\s?'\"<>\\]+)\?[^\s'\"<>\\]*")
_DATA = re.compile(r"(?i)\bdata:[^\s'\"]{16,}")


def configure(level: str = "info", form: str = "auto") -> None:
    """Send every log line of this process, Dramatiq's too, to standard error: for people on a terminal, else as JSON.

    Args:
        level: the least severe level that is written: debug, info, warning or error.
        form: `console`, `json`, or `auto`: console on a terminal, JSON otherwise. `FORCE_COLOR` gives console lines
            their colours where a program with a terminal reads them from a pipe.
    """
    terminal = os.isatty(2)
    console = form == "console" or (form == "auto" and terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]
    colors = terminal or bool(os.environ.get("FORCE_COLOR"))
    plain = structlog.dev.plain_traceback  # the other formatters print local variables, a transcript among them
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, exception_formatter=plain)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(name_messages)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask_named, *renderers, mask_text],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("faster_whisper", "httpx", "httpx2", "httpcore2", "urllib3", "filelock", "google"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(True)
    warnings.simplefilter("default")


def name_messages(record: logging.LogRecord) -> bool:
    """Have a message of Dramatiq's named by its id: as text it holds what its sender wrote, prompt and metadata too."""
    if isinstance(record.args, tuple):
        record.args = tuple(map(_named, record.args))
    return True


def _named(value: Any) -> Any:
    return f"{value.actor_name} {value.message_id}" if hasattr(value, "actor_name") else value


def mask_named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide what is logged under the name of a secret."""
    return {name: "********" if _SECRET_NAME.search(name) else value for name, value in event.items()}


def mask_text(_logger: WrappedLogger, _method: str, line: Any) -> str:
    """Take credentials, the queries of addresses and inline data out of a finished line, tracebacks included."""
    line = str(line)
    if "://" in line:  # few lines have one; to look so costs next to nothing, and the patterns a third of a whole line
        line = _QUERY.sub(r"\1?…", _CREDENTIALS.sub("********@", line))
    return _DATA.sub("data:…", line) if "data:" in line.lower() else line
