"""RpcAgent: the gRPC door in front of a real data plane with the digits model, and a client for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from agents.fake_agent import OPEN, FakeHealth, birds
from agents.running_engine import Running, running

from agent.inference.share import places_for_uploads
from agent.rpc.door import Door
from agent.rpc.health import HealthService
from agent.rpc.open_inference import OpenInference
from agent.rpc.server import Server
from agent.rpc.tf_serving import MODEL_SERVICE, PREDICTION_SERVICE, TFServing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message

    from agent.rpc.certificate import Certificate
    from agent.security.access import AccessRules

MAX_MESSAGE_BYTES = 1 << 20


class Requests:
    """Records the answers and the refusals."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str]] = []
        self.failures: list[str] = []

    def answered(self, method: str, code: str) -> None:
        self.answers.append((method, code))

    def auth_failed(self, reason: str) -> None:
        self.failures.append(reason)


class RpcAgent:
    def __init__(self, run: Running, server: Server, health: FakeHealth, requests: Requests) -> None:
        self.run = run
        self.server = server
        self.health = health
        self.requests = requests
        self.channel: Any = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.enable_retries", 0)])

    async def call(self, path: str, request: Message | bytes, answer: type[Message], **options: Any) -> Any:
        """Raises grpc.aio.AioRpcError."""
        content = request if isinstance(request, bytes) else request.SerializeToString()
        method = self.channel.unary_unary(path, response_deserializer=answer.FromString)
        return await method(content, timeout=10, **options)

    async def refused(self, path: str, request: Message | bytes, **options: Any) -> Any:
        """The error that the agent answers."""
        method = self.channel.unary_unary(path)
        content = request if isinstance(request, bytes) else request.SerializeToString()
        try:
            await method(content, timeout=10, **options)
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError(f"{path} was not refused")

    async def reply(self, path: str, request: Message | bytes, **options: Any) -> Any:
        """The code that the agent answers."""
        content = request if isinstance(request, bytes) else request.SerializeToString()
        return await self.channel.unary_unary(path)(content, timeout=10, **options).code()


@asynccontextmanager
async def rpc_agent(
    *,
    rules: AccessRules = OPEN,
    message_timeout_s: float = 10,
    per_client: int = 4,
    workers: int = 1,
    max_waiting: int = 2,
    port: int = 0,
    certificate: Certificate | None = None,
) -> AsyncIterator[RpcAgent]:
    async with running(workers=workers, max_waiting=max_waiting) as run:
        run.models.statuses = [birds()]
        health, requests = FakeHealth(), Requests()
        watched = HealthService(health, services=[PREDICTION_SERVICE, MODEL_SERVICE])
        tf_serving = TFServing(data_plane=run.data_plane, models=run.models)
        open_inference = OpenInference(version="1.2.3", data_plane=run.data_plane, models=run.models, health=health)
        door = Door(
            {**watched.methods(), **tf_serving.methods(), **open_inference.methods()},
            rules=rules,
            requests=requests,
            places=places_for_uploads(run.engine.workers + max_waiting, per_client=per_client),
            per_client=per_client,
            message_timeout_s=message_timeout_s,
        )
        server = Server(
            door,
            health=watched,
            host="127.0.0.1",
            port=port,
            max_message_bytes=MAX_MESSAGE_BYTES,
            handshake_timeout_s=5,
            certificate=certificate,
        )
        await server.start()
        agent = RpcAgent(run, server, health, requests)
        try:
            yield agent
        finally:
            await agent.channel.close()
            await server.stop()
