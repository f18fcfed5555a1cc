"""Http: requests answered, in progress, and refused for their token."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class HttpMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "edge_agent_http_requests",
            "HTTP requests answered, by route and status code.",
            ("route", "code"),
            registry=registry,
        )
        self._requests_of = functools.cache(self._requests.labels)
        self._in_flight = Gauge(
            "edge_agent_http_requests_in_flight", "HTTP requests in progress, excluding scrapes.", registry=registry
        )

        self._auth_failures = Counter(
            "edge_agent_auth_failures",
            "Requests with a missing or wrong access token, by reason: not_set_up, missing, malformed, unknown, ended "
            "(a session), scope. "
            "Also TLS handshakes with a client certificate that is not valid: certificate.",
            ("reason",),
            registry=registry,
        )

    def auth_failed(self, reason: str) -> None:
        self._auth_failures.labels(reason).inc()

    def answered(self, route: str, code: int) -> None:
        self._requests_of(route, code).inc()

    def in_flight(self) -> AbstractContextManager[object]:
        """Counts a request while it is open."""
        return self._in_flight.track_inprogress()
