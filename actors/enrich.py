"""The worker of the enrich stage: `dramatiq actors.enrich`."""

from __future__ import annotations

import structlog

from actors import process, worker

log = structlog.get_logger(__name__)

if worker.is_worker():
    from config.settings import SettingsError
    from pipeline.enrich import Enricher
    from pipeline.enrich.stage import NO_KEY, Enriching

    WORKER = worker.start("enrich")
    enricher = None
    if WORKER.settings.gemini_api_key is None:
        log.warning("Gemini skipped: jobs end without a summary", reason=NO_KEY)
    else:
        try:
            enricher = Enricher(WORKER.settings, WORKER.store)
        except SettingsError as error:
            process.give_up("enrich", str(error), process.USAGE)
        log.info("Gemini ready", model=enricher.model)
    enrich = WORKER.declare(Enriching(enricher))
