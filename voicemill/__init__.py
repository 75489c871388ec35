"""Voicemill's client: send voice messages to the stages, and read what became of them.

    from voicemill import Client

    client = Client()  # REDIS_URL
    job = client.wait(client.send("https://example.com/voice.ogg", language="ko").id)
    print(job.transcript.text)

Names are imported when they are used (PEP 562): the actor's path stays short, and the doctor can import the package on
a bare machine. The grammar is Python 3.8's for the same reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicemill.aio import AsyncClient as AsyncClient
    from voicemill.broker import Producer as Producer
    from voicemill.broker import decode as decode
    from voicemill.client import Client as Client
    from voicemill.config import ClientConfig as ClientConfig
    from voicemill.errors import ErrorCode as ErrorCode
    from voicemill.errors import JobError as JobError
    from voicemill.errors import Refused as Refused
    from voicemill.errors import UnknownJob as UnknownJob
    from voicemill.job import Audio as Audio
    from voicemill.job import Deliveries as Deliveries
    from voicemill.job import Enrichment as Enrichment
    from voicemill.job import Event as Event
    from voicemill.job import Failure as Failure
    from voicemill.job import Job as Job
    from voicemill.job import StageTimes as StageTimes
    from voicemill.job import Usage as Usage
    from voicemill.options import Options as Options
    from voicemill.status import SystemStatus as SystemStatus
    from voicemill.transcript import Segment as Segment
    from voicemill.transcript import Transcript as Transcript
    from voicemill.transcript import Word as Word

__version__ = "0.2.0.dev0"

_PLACES = {
    "AsyncClient": "aio",
    "Audio": "job",
    "Client": "client",
    "ClientConfig": "config",
    "Deliveries": "job",
    "Enrichment": "job",
    "ErrorCode": "errors",
    "Event": "job",
    "Failure": "job",
    "Job": "job",
    "JobError": "errors",
    "Options": "options",
    "Producer": "broker",
    "Refused": "errors",
    "Segment": "transcript",
    "StageTimes": "job",
    "SystemStatus": "status",
    "Transcript": "transcript",
    "UnknownJob": "errors",
    "Usage": "job",
    "Word": "transcript",
    "decode": "broker",
}

__all__ = [  # noqa: PLE0604 - all are text
    "__version__",
    "webhooks",
    *_PLACES,
]


def __getattr__(name: str) -> object:
    import importlib  # noqa: PLC0415 - as late as the rest

    if name == "webhooks":
        return importlib.import_module("voicemill.webhooks")
    if name in _PLACES:
        found = getattr(importlib.import_module("voicemill." + _PLACES[name]), name)
        globals()[name] = found
        return found
    raise AttributeError("module 'voicemill' has no attribute " + repr(name))


def __dir__() -> list[str]:
    return sorted(__all__)
