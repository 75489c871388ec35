"""Stands in for the stages in tests of what surrounds them: takes jobs from decode's queue and finishes them.

    python tests/stub_engine.py SECONDS

Each job is finished SECONDS after it was sent, with a transcript of one sentence, however many there are at a time.
Counting from when it was taken would finish jobs in bursts: their clients would then send in bursts, too.
"""

import heapq
import json
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from voicemill import Audio, Client, Segment, Transcript, Word
from voicemill.store import keys

POLL = 0.02  # seconds between polls while jobs wait for their end
SENTENCE = " Please move our meeting with the design team to Thursday."
WORDS = tuple(
    Word(start=0.1 * at, end=0.1 * at + 0.1, word=f" {word}", probability=0.9)
    for at, word in enumerate(SENTENCE.split())
)
TRANSCRIPT = Transcript(
    text=SENTENCE.strip(),
    language="en",
    language_probability=0.99,
    duration=1.0,
    model="stub",
    device="cpu",
    compute_type="int8",
    segments=(Segment(0.0, 1.0, SENTENCE, avg_logprob=-0.2, no_speech_prob=0.01, words=WORDS),),
    no_speech=False,
)


def take(store, block):
    """Return the id of the next job, and when it was sent (Unix seconds); None: there is none yet."""
    client, queue, messages = store.redis, keys.queue("decode"), keys.queue("decode", ".msgs")
    taken = client.blpop([queue], timeout=1) if block else client.lpop(queue)
    if taken is None:
        return None
    redis_id = taken[1] if block else taken
    message = json.loads(client.hget(messages, redis_id))
    client.hdel(messages, redis_id)
    store.jobs.begin(message["message_id"], "decode", "stub:1")
    return message["message_id"], message["message_timestamp"] / 1000


def finish(store, job_id):
    """Give a job its transcript and end it."""
    results = {"audio": Audio(duration=1.0, codec="opus").as_dict(), "transcript": TRANSCRIPT.as_dict()}
    store.jobs.finish(job_id, "decode", results, through="transcribe", following=None)


def serve(store, seconds):
    """Take and finish jobs for ever."""
    due = []
    while True:
        while due and due[0][0] <= time.time():
            finish(store, heapq.heappop(due)[1])
        taken = take(store, block=not due)
        if taken is not None:
            job_id, sent = taken
            heapq.heappush(due, (sent + seconds, job_id))
        elif due:
            time.sleep(max(0.0, min(POLL, due[0][0] - time.time())))


if __name__ == "__main__":
    with Client() as client:
        serve(client.store, float(sys.argv[1]))
