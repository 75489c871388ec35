"""How a worker takes its messages from Redis: one consumer, step by step."""

import json
import time
from types import SimpleNamespace

import pytest
import redis
from dramatiq import Message
from dramatiq.errors import ConnectionClosed
from live import current, queues, store

from actors import consumer as consumers
from actors.broker import Broker
from config.environment import STATE
from pipeline import sweeper
from voicemill import status

pytestmark = pytest.mark.usefixtures("redis_url")


def taken(broker):
    return store.redis.scard(consumers.acks_key(broker, "decode"))


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
def test_what_is_no_message_goes_to_the_dead_letters_and_stops_nobody(body, suffix):
    broker = Broker(middleware=[])
    broker.do_enqueue("decode" + suffix, b"\xff", body)
    assert status.read(current()).stages["decode"].oldest_waiting is None
    assert sweeper.sweep(after=0) == []
    consumer = broker.consume("decode" + suffix, prefetch=2)

    assert next(consumer) is None

    (letter,) = queues.dead_letters()
    assert (letter.id, letter.stage) == (b"\xff", "decode")
    assert taken(broker) == 0
    queues.drop(letter)
    assert not list(queues.dead_letters())
    consumer.close()


@pytest.mark.parametrize("suffix", ["", ".DQ"])
def test_a_message_that_would_end_a_thread_or_never_be_given_back_does_so_too(suffix):
    broker = Broker(middleware=[])
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


def test_a_message_brings_no_options_that_are_an_actors_or_of_another_queue():
    broker = Broker(middleware=[])
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


def test_messages_that_are_none_cost_a_stage_no_thread_and_no_room(workers):
    broker = Broker(middleware=[])
    bodies = [like_ours(**changes) for changes in HARMFUL]
    bodies += [like_ours(options={"redis_message_id": "bad", "eta": 2**52})]
    for number, body in enumerate(bodies):
        broker.do_enqueue("decode", f"bad{number}", body.replace('"bad"', f'"bad{number}"'))
    send(broker, "good")

    workers.start(
        """
        @dramatiq.actor(queue_name="decode", actor_name="decode", broker=BROKER, throws=JobError)
        def decode(source, schema=1):
            store.redis.rpush("done", source)
        """
    )

    assert store.redis.blpop("done", timeout=60)
    assert store.redis.blpop("done", timeout=60)
    assert len(list(queues.dead_letters())) == len(HARMFUL)


def test_an_idle_worker_that_may_not_wait_in_redis_polls_more_and_more_rarely(monkeypatch):
    broker, waits = Broker(middleware=[]), []
    broker.blocking = False
    monkeypatch.setattr(broker.stopping, "wait", waits.append)
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
def test_who_may_not_wait_in_redis_polls():
    broker = Broker(middleware=[])
    send(broker, "one")
    consumer = broker.consume("decode", prefetch=2)
    assert broker.blocking

    assert next(consumer).message_id == "one"

    assert not broker.blocking


def answer(consumer, monkeypatch, text):
    """Let the consumer's wait end with an error of this text, as a server or a proxy before it words it."""

    def refuse(*_command):
        raise redis.ResponseError(text)

    monkeypatch.setattr(consumer.waiter, "execute_command", refuse)


@pytest.mark.parametrize(
    "text",
    [
        "ERR unknown command 'BLMOVE', with args beginning with: 'q' 'q' 'LEFT'",  # Redis before 6.2
        "ERR unsupported command 'blmove'",
        "ERR Command is not available: 'BLMOVE'",
        "BLMOVE not supported in cluster proxy",
    ],
)
def test_a_server_that_knows_no_waiting_is_polled_whatever_its_words(monkeypatch, text):
    broker = Broker(middleware=[])
    send(broker, "one")
    consumer = broker.consume("decode", prefetch=2)
    answer(consumer, monkeypatch, text)

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
def test_a_trouble_that_passes_makes_nobody_poll_for_ever(monkeypatch, text):
    broker = Broker(middleware=[])
    consumer = broker.consume("decode", prefetch=2)
    answer(consumer, monkeypatch, text)

    with pytest.raises(ConnectionClosed):
        next(consumer)

    assert broker.blocking
    consumer.close()


def test_a_consumer_that_reconnects_takes_no_more_than_there_are_hands_for(monkeypatch):
    monkeypatch.setattr(consumers, "FULL", 0.01)
    broker = Broker(middleware=[])
    for number in range(4):
        send(broker, f"m{number}")
    first = broker.consume("decode", prefetch=2)
    in_hand = [next(first), next(first)]

    second = broker.consume("decode", prefetch=2)
    assert next(second) is None
    assert taken(broker) == 2
    second.ack(in_hand[0])

    assert next(second).message_id == "m2"
    assert taken(broker) == 2
    first.close()
    second.close()


@pytest.mark.parametrize(("seconds", "ahead"), [(0.001, 2), (1.0, 0)])
def test_messages_are_taken_ahead_only_while_they_are_soon_done(monkeypatch, seconds, ahead):
    now = 0.0
    monkeypatch.setattr(consumers, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    broker = Broker(middleware=[])
    for number in range(12):
        send(broker, f"m{number}")
    consumer = broker.consume("decode", prefetch=2)
    hands, most = [next(consumer), next(consumer)], 0

    for _ in range(6):
        now += seconds
        consumer.ack(hands.pop(0))
        hands.append(next(consumer))
        most = max(most, taken(broker))

    assert most == 2 + ahead
    consumer.close()


def test_a_message_that_never_arrived_is_put_back_by_and_by_and_what_is_in_hand_is_not(monkeypatch):
    now = 0.0
    monkeypatch.setattr(consumers, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    broker = Broker(middleware=[])
    send(broker, "in-hand")
    consumer = broker.consume("decode", prefetch=2)
    assert next(consumer).message_id == "in-hand"
    send(broker, "lost")
    broker.do_fetch("decode", 1)

    now += 60

    assert next(consumer).message_id == "lost"
    assert taken(broker) == 2
    consumer.close()


def test_a_message_whose_way_to_us_was_cut_off_is_fetched_again_at_once(redis_url, monkeypatch):
    monkeypatch.syspath_prepend(STATE.parent)
    from tests.chaos.proxy import Proxy

    proxy = Proxy(int(redis_url.rpartition(":")[2].partition("/")[0]), seed=1)
    direct = Broker(middleware=[])
    send(direct, "one")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{proxy.port}/0")
    broker = Broker(middleware=[])
    consumer = broker.consume("decode", prefetch=1)
    there_is_one = consumer._there_is_one
    monkeypatch.setattr(consumer, "_there_is_one", lambda: there_is_one() and proxy.cut(1.0))
    try:
        with pytest.raises(ConnectionClosed):
            next(consumer)
        consumer.close()
        again = broker.consume("decode", prefetch=1)

        assert next(again).message_id == "one"
        again.close()
    finally:
        store.redis.close()
        proxy.stop()
