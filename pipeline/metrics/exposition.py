"""The metrics in Prometheus's format: counters that listen to the hooks, and values that are read for each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import prometheus_client
import redis
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.metrics import hooks, shared
from pipeline.metrics.catalogue import METRICS, PREFIX
from pipeline.metrics.shared import Sample
from voicemill.lifecycle import STAGES
from voicemill.store import Store

REDIS_ANSWERS = Sample("ready", ("redis",), 1)
FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}

log = structlog.get_logger(__name__)


class Exposition:
    """All metrics of one worker process.

    Args:
        stage: whose worker it is.
        store: from which the shared metrics are read, unless the worker's own say that Redis does not answer.
        own: yields the samples of the worker's own state.
    """

    def __init__(self, stage: str, store: Store, own: Callable[[], Iterable[Sample]]) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # would double the number of series
        self._registry = CollectorRegistry(auto_describe=False)
        self._counted = dict(self._declare(stage))
        ProcessCollector(registry=self._registry)
        self._registry.register(_Current(store, own))
        hooks.listeners.append(self._count)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that an Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _declare(self, stage: str) -> Iterator[tuple[str, Counter | Histogram]]:
        """Yield the metrics that a worker of `stage` counts."""
        for name, metric in METRICS.items():
            if metric.kind == "gauge" or metric.origin not in ("stages" if stage in STAGES else "", stage):
                continue
            options: dict[str, Any] = {"labelnames": metric.labels, "registry": self._registry}
            if metric.kind == "histogram":
                histogram = Histogram(PREFIX + name, metric.help, buckets=metric.buckets, **options)
                if metric.labels == ("stage",):
                    histogram.labels(stage)
                yield name, histogram
            else:
                counter = Counter(PREFIX + name, metric.help, **options)
                for value in metric.known:
                    counter.labels(value)
                yield name, counter

    def _count(self, name: str, value: float, labels: dict[str, str]) -> None:
        counted = self._counted.get(name)
        if counted is None:
            return
        if labels:
            counted = counted.labels(**labels)
        if isinstance(counted, Histogram):
            counted.observe(value)
        else:
            counted.inc(value)


class _Current(Collector):
    """The metrics that are not counted in this process but read from Redis and from the worker's state."""

    def __init__(self, store: Store, own: Callable[[], Iterable[Sample]]) -> None:
        self._store, self._own = store, own

    def collect(self) -> Iterable[Any]:
        samples = list(self._own())
        if REDIS_ANSWERS in samples:
            try:
                samples += shared.read(self._store)
            except redis.RedisError as error:  # lost just now; the worker's own samples are still exposed
                log.warning("Redis cannot be used, its metrics are left out", reason=str(error))
        families: dict[str, Any] = {}
        for name, labels, value in samples:
            if name not in families:
                metric = METRICS[name]
                families[name] = FAMILIES[metric.kind](PREFIX + name, metric.help, labels=metric.labels)
            families[name].add_metric(labels, value)
        return families.values()
