"""The worker of the decode stage: `dramatiq actors.decode`."""

from __future__ import annotations

from pathlib import Path

from actors import worker

if worker.is_worker():
    from pipeline.decode import selftest, stage
    from pipeline.decode.workspace import sweep

    WORKER = worker.start("decode")
    media_root = Path(WORKER.settings.media_root) if WORKER.settings.media_root else None
    WORKER.test_machine(lambda: selftest.run(media_root))
    decode = WORKER.declare(stage.run)
    sweep()  # what a killed worker left behind
