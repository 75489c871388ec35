"""Whether sources and handoff work on S3, against moto's server on loopback.

pip install "moto[server]" s3fs && python bench/decode_s3.py     a verdict in its last line
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "voice-message.ogg"
os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def main() -> int:
    try:
        import fsspec
        import s3fs  # noqa: F401
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        sys.exit(f'{error.name} is not installed: pip install "moto[server]" s3fs')
    from cli.embedded import valkey

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    try:
        with tempfile.TemporaryDirectory(prefix="voicemill-bench-") as name, valkey(Path(name), durable=False) as url:
            os.environ["REDIS_URL"] = url
            store = fsspec.filesystem("s3")
            store.mkdir("voices")
            store.pipe("voices/inbox/voice.ogg", SAMPLE.read_bytes())
            sources(Path(name))
            audio(Path(name), store)
    finally:
        server.stop()
    print("PASSED: sources and handoff work on S3")
    return 0


def sources(folder: Path) -> None:
    from config.settings import Settings
    from pipeline.decode import decode

    settings = Settings(source_remotes="s3://voices/inbox/")
    made = decode("s3://voices/inbox/voice.ogg", folder, settings)
    assert made.duration > 1
    print(f"decoded {made.duration:.1f} s from s3://voices/inbox/voice.ogg")
    cases = {
        "s3://voices/inbox/nobody.ogg": "source_not_found",
        "s3://voices/other/voice.ogg": "source_forbidden",
        "s3://elsewhere/inbox/voice.ogg": "source_forbidden",
    }
    for source, expected in cases.items():
        found = code(lambda source=source: decode(source, folder, settings))
        assert found == expected, f"{source} ended in {found}"
        print(f"{source}: {found}")


def code(work: Callable[[], object]) -> str:
    from voicemill.errors import JobError

    try:
        work()
    except JobError as error:
        return error.code
    return "nothing wrong"


def audio(folder: Path, store: object) -> None:
    from voicemill import Client

    os.environ |= {"HANDOFF_URL": "s3://voices/handoff", "HANDOFF_URL_FROM": "1000"}
    handoff = Client().store.audio
    file = folder / "audio.flac"
    file.write_bytes(os.urandom(20_000_000))
    handoff.put("job", file)
    handoff.put("job", file)
    assert len(store.ls("voices/handoff", refresh=True)) == 1
    assert b"".join(handoff.read("job")) == file.read_bytes()
    handoff.delete("job")
    store.invalidate_cache()
    assert not store.exists("voices/handoff") or not store.ls("voices/handoff", refresh=True)
    assert code(lambda: b"".join(handoff.read("job"))) == "handoff_expired"
    assert handoff.sweep() == 0
    print("handed 20 MB over through s3://voices/handoff, and nothing is left of it")


if __name__ == "__main__":
    sys.exit(main())
