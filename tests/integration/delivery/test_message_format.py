"""What Voicemill writes into a queue is what stock Dramatiq would write for the same message."""

import json

import pytest
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from live import jobs, queues, store

from voicemill import decode
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import SCHEMA, letter


@pytest.fixture
def stock(redis_url):
    broker = RedisBroker(url=redis_url, namespace=keys.NAMESPACE, middleware=[])
    yield broker
    broker.close()
    broker.client.close()


def message(stage):
    return Message(stage, stage, ("j",), {"schema": SCHEMA}, {}, message_id="j")


def written(queue):
    """Return what lies in a queue: the keys with their types, Redis's ids and the bodies' text, without the times."""
    client = store.redis
    types = {key: client.type(key) for key in (keys.queue(queue), keys.queue(queue, ".msgs")) if client.exists(key)}
    ids = client.lrange(keys.queue(queue), 0, -1)
    bodies = client.hgetall(keys.queue(queue, ".msgs"))
    assert set(ids) == set(bodies)
    texts = []
    for redis_id, body in bodies.items():
        fields = json.loads(body)
        assert fields["options"]["redis_message_id"] == redis_id.decode()
        eta = fields["options"].get("eta", 0)
        text = body.decode().replace(redis_id.decode(), "ID").replace(str(fields["message_timestamp"]), "SENT")
        texts.append((text.replace(str(eta), "ETA") if eta else text, eta, fields["message_timestamp"]))
    client.delete(*types)
    return types, len(ids), texts


@pytest.mark.parametrize("delay", [None, 90_000], ids=["at once", "delayed"])
@pytest.mark.parametrize("stage", ["decode", "transcribe", "enrich", "webhook"])
def test_a_letter_is_what_stock_dramatiq_enqueues(stock, stage, delay):
    queue = stage if delay is None else f"{stage}.DQ"
    stock.declare_queue(stage)
    stock.enqueue(message(stage), delay=delay)
    types, count, [(text, eta, sent)] = written(queue)

    queues.push(letter(stage, "j", delay=(delay or 0) / 1000))

    our_types, our_count, [(our_text, our_eta, our_sent)] = written(queue)
    assert (our_types, our_count, our_text) == (types, count, text)
    assert abs(our_sent - sent) < 5000
    assert abs(our_eta - eta) < 5000
    assert (our_eta - our_sent == delay) if delay else our_eta == 0


@pytest.mark.parametrize("delay", [None, 90_000], ids=["at once", "delayed"])
def test_stock_dramatiq_reads_what_is_sent(stock, delay):
    sent = decode.send_with_options(args=("voice.ogg",), delay=delay)
    consumer = stock.consume("decode.DQ" if delay else "decode", timeout=250)

    found = next(consumer)

    assert (found.message_id, found.actor_name) == (sent.message_id, "decode")
    assert (found.args, found.kwargs) == ((sent.message_id,), {"schema": SCHEMA})
    assert set(found.options) == {"redis_message_id", "eta"} if delay else {"redis_message_id"}


def test_the_next_stage_s_message_is_what_stock_dramatiq_enqueues(stock):
    stock.declare_queue("transcribe")
    stock.enqueue(message("transcribe"))
    types, count, [(text, *_)] = written("transcribe")
    jobs.create("j", "voice.ogg", Options())

    jobs.finish("j", "decode", {"audio": {}}, token=jobs.begin("j", "decode", "host:1"))

    our_types, our_count, [(our_text, *_)] = written("transcribe")
    assert (our_types, our_count, our_text) == (types, count, text)
