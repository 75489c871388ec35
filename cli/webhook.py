"""`webhook`: try a receiver, see which ones fail, make a secret."""

from __future__ import annotations

import argparse
import json
import time
import uuid
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from config import settings
from pipeline.webhook import event
from pipeline.webhook.courier import Courier
from voicemill import webhooks as signature
from voicemill.errors import ErrorCode, JobError
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
    shown = add("list", "show the receivers that are still to be told something; exit code 1 where one fails")
    shown.add_argument("--json", action="store_true", help="print one JSON list")
    add("secret", "make a secret for WEBHOOK_SECRET, to be set for the webhook workers and given to the receiver")


def run(arguments: argparse.Namespace) -> int:
    """Do it; 1 where the receiver did not take the test or one of those listed fails, 2 where settings forbid it."""
    if arguments.action == "secret":
        print(signature.generate())
        return 0
    if arguments.action == "list":
        return _list(as_json=arguments.json)
    return _test(arguments.url)


def _test(url: str) -> int:
    try:
        receiver = receiver_of(url)
    except JobError as wrong:
        print(f"{wrong.message}. {ErrorCode(wrong.code).remedy}")
        return USAGE
    courier = Courier(settings.get())
    now = time.time()
    body = event.envelope("webhook.test", now, {"message": "If you can verify this, webhooks reach you."})
    answer = courier.send(url, f"msg_test_{uuid.uuid4()}", body)
    taken = f"after {answer.seconds * 1000:.0f} ms"
    if answer.error is None:
        print(f"{receiver} took it: {answer.status} {taken}")
        return 0
    error = answer.error
    unasked = error.code in ("webhook_forbidden", "webhook_unsigned")
    status = "it was not asked" if unasked else f"{answer.status or 'no answer'} {taken}"
    print(f"{receiver} did not take it: {status}\n{error.code}: {error.message}. {ErrorCode(error.code).remedy}")
    return USAGE if unasked else FAILED


def _list(*, as_json: bool) -> int:
    receivers = store.outbox.receivers()
    unattended = receivers and not any("webhook" in worker.stages for worker in store.workers.alive())
    if as_json:
        print(json.dumps([asdict(receiver) for receiver in receivers], indent=2))
    elif not receivers:
        print("all is delivered")
    else:
        _show(receivers)
        if unattended:
            print("No live webhook worker: nothing is delivered until one is started (dramatiq actors.webhook).")
    return FAILED if unattended or any(receiver.failures for receiver in receivers) else 0


def _show(receivers: list[Receiver]) -> None:
    """Print two or three lines a receiver, which neither a narrow terminal nor a pipe cuts off."""
    console = Console(soft_wrap=True)
    for each in receivers:
        lines = [f"{each.name}  {each.waiting} waiting, {each.in_progress} in hand, {each.delayed} delayed"]
        if each.failures:
            paused = f", paused until {_at(each.paused_until)}" if each.paused_until else ""
            lines.append(f"    failing since {_at(each.failing_since)}, {each.failures} in a row{paused}")
        if each.error:
            lines.append(f"    {each.error['code']}: {each.error['message']}")
        console.print(Text("\n".join(lines)))  # as Text, which takes out what would steer a terminal


def _at(moment: float | None) -> str:
    return "" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
