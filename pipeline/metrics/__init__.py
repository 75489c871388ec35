"""Metrics of workers for Prometheus. Except for `hooks`, it is imported only if `METRICS_PORT` is set."""

from pipeline.metrics.catalogue import METRICS, PREFIX, Metric, table

__all__ = ["METRICS", "PREFIX", "Metric", "table"]
