"""Rpc: gRPC requests answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter

if TYPE_CHECKING:
    from agent.metrics.http import HttpMetrics


class RpcMetrics:
    def __init__(self, registry: CollectorRegistry, *, http: HttpMetrics) -> None:
        """`http` counts missing and wrong tokens of all doors."""
        self._requests = Counter(
            "edge_agent_grpc_requests",
            "gRPC requests answered, by method and status code.",
            ("method", "code"),
            registry=registry,
        )
        self._http = http

    def auth_failed(self, reason: str) -> None:
        self._http.auth_failed(reason)

    def answered(self, method: str, code: str) -> None:
        self._requests.labels(method, code).inc()
