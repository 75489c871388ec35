"""The worker of the enrich stage: `dramatiq actors.enrich`."""

from __future__ import annotations

import structlog

from actors import process, worker

log = structlog.get_logger(__name__)

if worker.is_worker():
    from config.settings import SettingsError
    from pipeline.enrich import Enricher
    from pipeline.enrich.providers.base import NotConfigured
    from pipeline.enrich.stage import NO_KEY, Enriching

    WORKER = worker.start("enrich")
    enricher = None
    try:
        enricher = Enricher(WORKER.settings, WORKER.store)
        log.info("Gemini ready", model=enricher.model)
    except NotConfigured:
        log.warning("Gemini skipped: jobs end without a summary", reason=NO_KEY)
    except SettingsError as error:
        process.give_up("enrich", str(error), process.USAGE)
    enrich = WORKER.declare(Enriching(enricher))
