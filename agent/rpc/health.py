"""Health: grpc.health.v1, for Kubernetes' probes and load balancers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import grpc

from agent.rpc.door import Method, RefusedError, Watch
from agent.rpc.protos import health_pb2 as protos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

_SERVICE = "/grpc.health.v1.Health/"
_LIVENESS = "liveness"
_LOOK_EVERY_S = 1.0


class Health(Protocol):
    def stuck(self) -> str | None: ...
    def why_not_ready(self) -> Sequence[str]: ...


class HealthService:
    """The service `liveness` is like GET /healthz; all others, and the empty name, are like /readyz."""

    def __init__(self, health: Health, *, services: Iterable[str]) -> None:
        self._health = health
        self._services = {"", "readiness", _LIVENESS, *services}
        self._stopping = asyncio.Event()

    def methods(self) -> Mapping[str, Method | Watch]:
        return {
            f"{_SERVICE}Check": Method(protos.HealthCheckRequest, None, self._check),
            f"{_SERVICE}Watch": Watch(protos.HealthCheckRequest, self._watch),
        }

    def stop(self) -> None:
        """From now on nothing is served, and the streams end."""
        self._stopping.set()

    async def _check(self, request: protos.HealthCheckRequest) -> protos.HealthCheckResponse:
        if request.service not in self._services:
            known = ", ".join(sorted(self._services - {""}))
            unknown = f"No service is named {request.service[:80]!r}. Leave it out, or use one of: {known}."
            raise RefusedError(grpc.StatusCode.NOT_FOUND, unknown)
        return protos.HealthCheckResponse(status=self._status(request.service))

    async def _watch(self, request: protos.HealthCheckRequest) -> AsyncIterator[protos.HealthCheckResponse]:
        """Sends the status, and again whenever it changes."""
        sent = None
        while sent is None or not self._stopping.is_set():
            if (status := self._status(request.service)) != sent:
                yield protos.HealthCheckResponse(status=status)
                sent = status
            try:
                await asyncio.wait_for(self._stopping.wait(), _LOOK_EVERY_S)
            except asyncio.TimeoutError:
                continue
            yield protos.HealthCheckResponse(status=protos.HealthCheckResponse.NOT_SERVING)

    def _status(self, service: str) -> protos.HealthCheckResponse.ServingStatus:
        if service not in self._services:
            return protos.HealthCheckResponse.SERVICE_UNKNOWN
        is_well = self._health.stuck() is None if service == _LIVENESS else not self._health.why_not_ready()
        if is_well and not self._stopping.is_set():
            return protos.HealthCheckResponse.SERVING
        return protos.HealthCheckResponse.NOT_SERVING
