"""How a worker takes its messages from Redis: one consumer, step by step."""

import json
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import redis
from dramatiq import Message
from dramatiq.errors import ConnectionClosed
from live import current, queues, store

from actors.broker import Broker
from actors.consumer import Consumer
from config import settings
from config.environment import STATE
from pipeline.sweeper import Sweeper
from voicemill import status
from voicemill.store import keys

pytestmark = pytest.mark.usefixtures("redis_url")


def taken(broker):
    return store.redis.scard(keys.acks(broker.broker_id, "decode"))


def send(broker, name):
    options = {"redis_message_id": name}
    broker.do_enqueue("decode", name, Message("decode", "decode", ("a.ogg",), {}, options, message_id=name).encode())


def like_ours(suffix="", **changes):
    """A message as ours are, but for some fields."""
    fields = Message("decode" + suffix, "decode", ("a.ogg",), {}, {"redis_message_id": "bad"}, message_id="j").asdict()
    return json.dumps(fields | changes)


HARMFUL = [
    {"queue_name": "webhook"},
    {"queue_name": "decode.XQ"},
    {"queue_name": None},
    {"queue_name": ["decode"]},
    {"actor_name": ["decode"]},
    {"kwargs": ["schema"]},
    {"message_id": [1]},
    {"message_id": 1},
    {"message_id": "\ud800"},
    {"message_id": "j:events"},  # the key of another job's events
    {"options": None},
    {"options": ["redis_message_id"]},
    {"options": {"redis_message_id": {}}},
    {"options": {"redis_message_id": "bad", "retries": "many"}},
    {"options": {"redis_message_id": "bad", "retries": -1000}},  # of which there would be no end
]
HARMFUL_LATER = [{"options": {"redis_message_id": "bad", "eta": eta}} for eta in ("soon", 10**400, -(10**400))]
BAD = ["no JSON", "[]", "{}", json.dumps({"message_id": "j"}), json.dumps({"message_timestamp": 10**400})]


@pytest.mark.parametrize("body", BAD)
@pytest.mark.parametrize("suffix", ["", ".DQ"])
def test_what_is_not_a_message_becomes_a_dead_letter_and_stops_nothing(body, suffix):
    broker = Broker(current())
    broker.do_enqueue("decode" + suffix, b"\xff", body)
    assert status.read(current()).stages["decode"].oldest_waiting is None
    assert Sweeper(current(), settings.get()).sweep(after=0) == []
    consumer = broker.consume("decode" + suffix, prefetch=2)

    assert next(consumer) is None

    (letter,) = queues.dead_letters()
    assert (letter.id, letter.stage) == (b"\xff", "decode")
    assert taken(broker) == 0
    queues.drop(letter)
    assert not list(queues.dead_letters())
    consumer.close()


@pytest.mark.parametrize("suffix", ["", ".DQ"])
def test_a_message_that_would_end_a_thread_or_never_be_returned_becomes_a_dead_letter(suffix):
    broker = Broker(current())
    harmful = [like_ours(suffix, **changes) for changes in HARMFUL + HARMFUL_LATER * (suffix == ".DQ")]
    harmful.append(like_ours("" if suffix else ".DQ"))
    consumer = broker.consume("decode" + suffix, prefetch=1)

    for number, body in enumerate(harmful):
        broker.do_enqueue("decode" + suffix, f"bad{number}", body)
        assert next(consumer) is None, body
        assert not broker.held["decode" + suffix]

    consumer.close()
    assert taken(broker) == 0
    assert len(list(queues.dead_letters())) == len(harmful)


def test_a_message_brings_no_options_that_are_an_actor_s_or_another_queue_s():
    broker = Broker(current())
    options = {"throws": "abc", "pipe_target": {}, "eta": 2**52, "retries": 1}
    for queue in ("decode", "decode.DQ"):
        name = f"in {queue}"
        message = Message(queue, "decode", ("a.ogg",), {}, options | {"redis_message_id": name})
        broker.do_enqueue(queue, name, message.encode())
        consumer = broker.consume(queue, prefetch=1)

        found = next(consumer).options

        consumer.close()
        later = {"eta": 2**52} if queue == "decode.DQ" else {}
        assert found == {"redis_message_id": name, "retries": 1} | later


def test_invalid_messages_cost_a_stage_no_thread_and_no_room(workers):
    broker = Broker(current())
    bodies = [like_ours(**changes) for changes in HARMFUL]
    bodies += [like_ours(options={"redis_message_id": "bad", "eta": 2**52})]
    for number, body in enumerate(bodies):
        broker.do_enqueue("decode", f"bad{number}", body.replace('"bad"', f'"bad{number}"'))
    send(broker, "good")

    workers.start(
        """
        @dramatiq.actor(queue_name="decode", actor_name="decode", broker=BROKER, throws=JobError)
        def decode(source, **_keywords):
            store.redis.rpush("done", source)
        """
    )

    assert store.redis.blpop("done", timeout=60)
    assert store.redis.blpop("done", timeout=60)
    assert len(list(queues.dead_letters())) == len(HARMFUL)


def test_an_idle_worker_that_may_not_wait_in_redis_polls_less_and_less_often():
    broker, waits = Broker(current()), []
    broker.blocking = False
    broker.stopping = SimpleNamespace(is_set=lambda: False, wait=waits.append)
    consumer = broker.consume("decode", prefetch=2, timeout=250)

    for _ in range(15):
        assert next(consumer) is None

    assert sum(waits[-4:]) >= 2.0
    assert max(waits) <= 1.0
    send(broker, "one")
    assert next(consumer).message_id == "one"


@pytest.fixture
def unprivileged(redis_url, monkeypatch):
    """A user of Redis who may do all but wait in it."""
    admin = store.redis
    admin.acl_setuser("unprivileged", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-blmove"])
    monkeypatch.setenv("REDIS_URL", redis_url.replace("://", "://unprivileged:any@"))
    yield
    admin.acl_deluser("unprivileged")


@pytest.mark.usefixtures("unprivileged")
def test_a_user_without_the_right_to_wait_in_redis_polls():
    broker = Broker(current())
    send(broker, "one")
    consumer = broker.consume("decode", prefetch=2)
    assert broker.blocking

    assert next(consumer).message_id == "one"

    assert not broker.blocking


def answer(consumer, text):
    """Let the consumer's wait end with an error of this text, as a server or a proxy in front of it words it."""
    consumer.close()
    consumer.waiter = Mock(execute_command=Mock(side_effect=redis.ResponseError(text)))


@pytest.mark.parametrize(
    "text",
    [
        "ERR unknown command 'BLMOVE', with args beginning with: 'q' 'q' 'LEFT'",  # Redis before 6.2
        "ERR unsupported command 'blmove'",
        "ERR Command is not available: 'BLMOVE'",
        "BLMOVE not supported in cluster proxy",
    ],
)
def test_a_server_without_blmove_is_polled_whatever_its_error_says(text):
    broker = Broker(current())
    send(broker, "one")
    consumer = broker.consume("decode", prefetch=2)
    answer(consumer, text)

    assert next(consumer).message_id == "one"

    assert not broker.blocking


@pytest.mark.parametrize(
    "text",
    [
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "BUSY Valkey is busy running a script",
        "MISCONF Valkey is configured to save RDB snapshots",
    ],
)
def test_a_temporary_error_makes_nobody_poll_for_ever(text):
    broker = Broker(current())
    consumer = broker.consume("decode", prefetch=2)
    answer(consumer, text)

    with pytest.raises(ConnectionClosed):
        next(consumer)

    assert broker.blocking
    consumer.close()


def test_a_consumer_that_reconnects_takes_no_more_messages_than_there_are_threads():
    broker = Broker(current())
    for number in range(4):
        send(broker, f"m{number}")
    first = broker.consume("decode", prefetch=2)
    at_work = [next(first), next(first)]

    second = broker.consume("decode", prefetch=2)
    assert next(second) is None
    assert taken(broker) == 2
    second.ack(at_work[0])

    assert next(second).message_id == "m2"
    assert taken(broker) == 2
    first.close()
    second.close()


@pytest.mark.parametrize(("seconds", "ahead"), [(0.001, 2), (1.0, 0)])
def test_messages_are_taken_ahead_only_while_they_finish_quickly(seconds, ahead):
    now = 0.0
    broker = Broker(current())
    for number in range(12):
        send(broker, f"m{number}")
    consumer = Consumer(broker, "decode", 2, 250, clock=lambda: now)
    at_work, most = [next(consumer), next(consumer)], 0

    for _ in range(6):
        now += seconds
        consumer.ack(at_work.pop(0))
        at_work.append(next(consumer))
        most = max(most, taken(broker))

    assert most == 2 + ahead
    consumer.close()


def test_a_message_that_never_arrived_is_requeued_after_a_while_and_one_at_work_is_not():
    now = 0.0
    broker = Broker(current())
    send(broker, "at work")
    consumer = Consumer(broker, "decode", 2, 250, clock=lambda: now)
    assert next(consumer).message_id == "at work"
    send(broker, "lost")
    broker.do_fetch("decode", 1)

    now += 60

    assert next(consumer).message_id == "lost"
    assert taken(broker) == 2
    consumer.close()


def test_a_message_lost_with_its_connection_is_fetched_again_at_once(redis_url, monkeypatch):
    monkeypatch.syspath_prepend(STATE.parent)
    from tests.chaos.proxy import Proxy

    proxy = Proxy(int(redis_url.rpartition(":")[2].partition("/")[0]), seed=1)
    direct = Broker(current())
    send(direct, "one")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{proxy.port}/0")
    broker = Broker(current())

    class CutOff(Consumer):
        def _there_is_one(self):
            return super()._there_is_one() and proxy.cut(1.0)

    consumer = CutOff(broker, "decode", 1, 250)
    try:
        with pytest.raises(ConnectionClosed):
            next(consumer)
        consumer.close()
        again = broker.consume("decode", prefetch=1)

        assert next(again).message_id == "one"
        again.close()
    finally:
        current().close()
        proxy.stop()
