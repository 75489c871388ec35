"""Whether damaged files end in sound or in a code, and in nothing else: good ones of every format, changed by chance.

python bench/decode_fuzz.py [CASES] [SEED]      (1000, 0); a tally, and a verdict in its last line
"""

from __future__ import annotations

import random
import sys
import tempfile
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "integration" / "decode"))

import corpus
import structlog

from config.settings import Settings
from pipeline.decode import decode
from voicemill.errors import ErrorCode, JobError

LIMIT = 60.0  # seconds of sound, so that a damaged header cannot make the drill long


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    cases, seed = (int(word) for word in (*sys.argv[1:], *("1000", "0")[len(sys.argv) - 1 :]))
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="voicemill-bench-") as name:
        media = Path(name)
        voice = corpus.speak(media / "voice.wav")
        whole = [corpus.encode(voice, media, each).read_bytes() for each in corpus.NAMES]
        settings = Settings(media_root=name, max_duration=LIMIT, decode_timeout=20)

        def one(number: int, data: bytes) -> str:
            (media / f"{number}").write_bytes(data)
            try:
                with tempfile.TemporaryDirectory() as folder:
                    decode(f"{number}", Path(folder), settings)
            except JobError as error:
                return error.code if error.code in set(ErrorCode) else f"unknown code {error.code}"
            except Exception:  # noqa: BLE001 - what else it may raise is what is looked for
                return traceback.format_exc()
            finally:
                (media / f"{number}").unlink()
            return "decoded"

        with ThreadPoolExecutor(2) as pool:
            damaged = (damage(chance, chance.choice(whole)) for _ in range(cases))
            tally = Counter(pool.map(one, range(cases), damaged))
    good = set(tally) <= {"decoded", *ErrorCode}
    for outcome, count in tally.most_common():
        print(f"{count:>6}  {outcome}")
    print(f"{'PASSED' if good else 'FAILED'}: {cases} damaged files, seed {seed}")
    return 0 if good else 1


def damage(chance: random.Random, data: bytes) -> bytes:
    """Return `data` with some bytes changed, mostly in its header, with a piece lost, doubled or cut off."""
    changed = bytearray(data)
    head = min(len(changed), 300)
    for _ in range(chance.choice((1, 3, 30))):
        place = chance.randrange(head if chance.random() < 0.7 else len(changed))
        changed[place] = chance.choice((0, 0xFF, 0x7F, chance.randrange(256)))
    start, size = chance.randrange(len(changed)), chance.randrange(2000)
    match chance.randrange(4):
        case 0:
            del changed[start : start + size]
        case 1:
            changed[start:start] = changed[start : start + size]
        case 2:
            del changed[start:]
    return bytes(changed)


if __name__ == "__main__":
    sys.exit(main())
