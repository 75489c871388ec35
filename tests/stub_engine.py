"""Stands in for the stages where only what is around them is tested: takes jobs from decode's queue, and ends them.

    python tests/stub_engine.py SECONDS

Each job is done SECONDS after it was sent, with a transcript of one sentence, however many there are at a time. After
it was taken would not do: jobs that are taken at one look would end together, and their clients come together from then
on, each lap more of them.
"""

import heapq
import json
import sys
import time
from pathlib import Path

from live import jobs, store

from voicemill.store import keys

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))


LOOK = 0.02  # seconds between looks while something is in hand
SENTENCE = " Please move our meeting with the design team to Thursday."
WORDS = [
    {"start": 0.1 * at, "end": 0.1 * at + 0.1, "word": f" {word}", "probability": 0.9}
    for at, word in enumerate(SENTENCE.split())
]
TRANSCRIPT = {
    "text": SENTENCE.strip(),
    "language": "en",
    "language_probability": 0.99,
    "duration": 1.0,
    "model": "stub",
    "device": "cpu",
    "compute_type": "int8",
    "segments": [
        {"start": 0.0, "end": 1.0, "text": SENTENCE, "avg_logprob": -0.2, "no_speech_prob": 0.01, "words": WORDS}
    ],
    "no_speech": False,
}


def take(client, block):
    """The id of the next job, and when it was sent (Unix seconds); None: there is none yet."""
    queue = keys.queue("decode")
    taken = client.blpop([queue], timeout=1) if block else client.lpop(queue)
    if taken is None:
        return None
    redis_id = taken[1] if block else taken
    message = json.loads(client.hget(keys.queue("decode", ".msgs"), redis_id))
    client.hdel(keys.queue("decode", ".msgs"), redis_id)
    jobs.begin(message["message_id"], "decode", "stub:1")
    return message["message_id"], message["message_timestamp"] / 1000


def end(job_id):
    """Give a job its transcript."""
    jobs.finish(job_id, "decode", {"audio": {"duration": 1.0, "codec": "opus", "warnings": []}})
    jobs.begin(job_id, "transcribe", "stub:1")
    jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, following=None)


def serve(seconds):
    """Take and end jobs for ever."""
    client, due = store.redis, []
    while True:
        while due and due[0][0] <= time.time():
            end(heapq.heappop(due)[1])
        taken = take(client, block=not due)
        if taken is not None:
            job_id, sent = taken
            heapq.heappush(due, (sent + seconds, job_id))
        elif due:
            time.sleep(max(0.0, min(LOOK, due[0][0] - time.time())))


if __name__ == "__main__":
    serve(float(sys.argv[1]))
