"""What a worker tells Prometheus; nothing here is imported unless `METRICS_PORT` is set."""

from pipeline.metrics.catalogue import METRICS, PREFIX, Metric, table

__all__ = ["METRICS", "PREFIX", "Metric", "table"]
