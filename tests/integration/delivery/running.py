"""Run a stage in the test's own process on the next message of its queue, as a worker does."""

from dramatiq.broker import MessageProxy
from live import current

from actors.attempt import Attempt
from actors.broker import Broker
from actors.consumer import read
from actors.retries import Retries
from actors.runner import Runner
from config import settings
from pipeline.stage import Result

TEXT = {"transcript": {"text": "Hello."}}
RESULTS = {"decode": Result({"audio": {}}), "transcribe": Result(TEXT), "enrich": Result({"enrichment_skipped": "no"})}


class Process:
    """One worker process of a stage.

    Args:
        stage: its name.
        work: what it does; None: the least that the stage makes.
    """

    def __init__(self, stage, work=None):
        attempt, store = Attempt(), current()
        self.stage, self.broker = stage, Broker(store)
        self.runner = Runner(stage, work or (lambda _job, _context: RESULTS[stage]), store, settings.get(), attempt)
        self.retries = Retries(store, attempt)

    def take(self):
        """Take the next message of the queue."""
        (data,) = self.broker.do_fetch(self.stage, 1)
        return MessageProxy(read(data, self.stage))

    def process(self, message=None):
        """Process a message; None: the next one. Return it."""
        message = message or self.take()
        redis_id, raised = message.options["redis_message_id"], None
        try:
            self.runner.run(message.message_id, message.args, message.kwargs, redis_id)
        except Exception as error:  # noqa: BLE001 - as Dramatiq's threads do
            raised = error
        self.retries.after_process_message(self.broker, message, exception=raised)
        done = self.broker.do_nack if message.failed else self.broker.do_ack
        done(self.stage, redis_id)
        return message
