"""`webhook`: test a receiver, list the receivers with pending webhooks, generate a secret."""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from dataclasses import asdict
from typing import Any

from pipeline.webhook.delivery import Deliverer

from config import settings
from pipeline.webhook import event
from voicemill import Client, webhooks
from voicemill._cli import output
from voicemill.errors import ErrorCode, JobError
from voicemill.lifecycle import WEBHOOK
from voicemill.store import Store
from voicemill.store.jobs import receiver_of
from voicemill.store.outbox import Receiver

FAILED, USAGE = 1, 2  # exit codes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")

    test = add("test", "send a signed event of the type webhook.test, as the workers would")
    test.add_argument("url", metavar="URL", help="the receiver's address")
    listing = add("list", "list the receivers with pending webhooks; exit code 1 if one fails")
    listing.add_argument("--json", action="store_true", help="print one JSON list")
    add("secret", "generate a secret for WEBHOOK_SECRET, which the webhook workers and the receiver need")


def run(arguments: argparse.Namespace) -> int:
    """Do it; 1 if the receiver did not accept the test or a listed one fails, 2 if settings forbid it."""
    if arguments.action == "secret":
        print(webhooks.generate())
        return 0
    with Client() as client:
        if arguments.action == "list":
            return _list(client.store, as_json=arguments.json)
        return _test(client.store, arguments.url)


def _test(store: Store, url: str) -> int:
    try:
        receiver = receiver_of(url)
    except JobError as invalid:
        print(invalid.advice, file=sys.stderr)
        return USAGE
    deliverer = Deliverer(settings.get(), store)
    body = event.envelope("webhook.test", time.time(), {"message": "If you can verify this, webhooks reach you."})
    answer = deliverer.send(url, f"msg_test_{uuid.uuid4()}", body)
    after = f"after {answer.seconds * 1000:.0f} ms"
    error = answer.error
    if error is None:
        print(f"{receiver} accepted it: {answer.status} {after}")
        return 0
    forbidden = error.code in (ErrorCode.WEBHOOK_FORBIDDEN, ErrorCode.WEBHOOK_UNSIGNED)
    status = "nothing was sent" if forbidden else f"{answer.status or 'no answer'} {after}"
    print(f"{receiver} did not accept it: {status}\n{error.advice}")
    return USAGE if forbidden else FAILED


def _list(store: Store, *, as_json: bool) -> int:
    receivers = store.outbox.receivers()
    unattended = receivers and not any(WEBHOOK in worker.stages for worker in store.workers.alive())
    if as_json:
        print(json.dumps([_as_dict(receiver) for receiver in receivers], indent=2))
    elif not receivers:
        print("no pending webhooks")
    else:
        _show(receivers)
        if unattended:
            print("No live webhook worker: nothing is delivered until one is started (dramatiq actors.webhook).")
    return FAILED if unattended or any(receiver.failures for receiver in receivers) else 0


def _show(receivers: list[Receiver]) -> None:
    """Print two or three lines for each receiver, uncut."""
    for each in receivers:
        counts = f"{each.waiting} waiting, {each.in_progress} in progress, {each.delayed} delayed"
        print(output.printable(f"{each.name}  {counts}"))
        if each.failures:
            paused = f", paused until {output.clock(each.paused_until)}" if each.paused_until else ""
            since = output.clock(each.failing_since) if each.failing_since else ""
            print(f"    failing since {since}, {each.failures} in a row{paused}")
        if each.error:
            print(output.printable(f"    {each.error.code}: {each.error.message}"))


def _as_dict(receiver: Receiver) -> dict[str, Any]:
    return asdict(receiver) | {"error": None if receiver.error is None else receiver.error.as_dict()}
