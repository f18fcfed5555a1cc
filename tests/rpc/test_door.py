"""What every gRPC request passes, over real connections."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from typing import TYPE_CHECKING

import grpc
import pytest
from agents.rpc_agent import MAX_MESSAGE_BYTES, rpc_agent
from agents.running_engine import JPEG
from agents.site import until
from grpc._cython import cygrpc

from agent.errors import StartError
from agent.rpc.door import client_address
from agent.rpc.protos import health_pb2, tf_serving_pb2 as tfs
from agent.security.access import COOKIE, AccessRules
from agent.security.sessions import Sessions
from agent.security.tokens import SCOPES, TokensFile, create_token

if TYPE_CHECKING:
    from pathlib import Path

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
Status = health_pb2.HealthCheckResponse


def request(*images: bytes) -> tfs.PredictRequest:
    shape = tfs.TensorShape(dim=[tfs.TensorShape.Dim(size=len(images))])
    tensor = tfs.SentTensor(dtype=tfs.DT_STRING, tensor_shape=shape, string_val=images)
    return tfs.PredictRequest(model_spec=tfs.ModelSpec(name="digits"), inputs={"image": tensor})


STATUS_OF_BIRDS = tfs.GetModelStatusRequest(model_spec=tfs.ModelSpec(name="birds"))


def bearer(token: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


@pytest.mark.anyio
async def test_session_cookie_never_counts(tmp_path: Path) -> None:
    create_token(tmp_path / "tokens", "admin", "admin")
    tokens, sessions = TokensFile(tmp_path / "tokens", is_required=True), Sessions(tmp_path / "session_key")
    cookie = sessions.begin((tokens.tokens() or ())[0])
    async with rpc_agent(rules=AccessRules(tokens, is_local=True, sessions=sessions)) as agent:
        error = await agent.refused(STATUS, STATUS_OF_BIRDS, metadata=(("cookie", f"{COOKIE}={cookie}"),))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.anyio
async def test_token_needs_the_scope_of_the_method(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = {scope: create_token(file, scope, scope) for scope in SCOPES}
    async with rpc_agent(rules=AccessRules(tokens=TokensFile(file, is_required=True), is_local=True)) as agent:
        for path, message, needed in (
            (PREDICT, request(JPEG), "infer"),
            (STATUS, STATUS_OF_BIRDS, "read"),
            ("/tensorflow.serving.PredictionService/Regress", b"", "read"),
            ("/no.Service/Method", b"", "read"),
        ):
            error = await agent.refused(path, message)
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            assert "Send the metadata authorization: Bearer TOKEN" in error.details()
            for scope in SCOPES:
                reply = await agent.reply(path, message, metadata=bearer(token[scope]))
                if SCOPES.index(scope) < SCOPES.index(needed):
                    assert reply == grpc.StatusCode.PERMISSION_DENIED
                else:
                    assert reply in (grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED)
        assert set(agent.requests.failures) == {"missing", "scope"}


@pytest.mark.anyio
async def test_wrong_tokens_are_refused_and_soon_slowly(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    create_token(file, "a", "infer")
    async with rpc_agent(rules=AccessRules(tokens=TokensFile(file, is_required=True), is_local=True)) as agent:
        for metadata in (bearer("wrong"), (("authorization", "Basic x"),), bearer("other")):
            assert await agent.reply(STATUS, STATUS_OF_BIRDS, metadata=metadata) == grpc.StatusCode.UNAUTHENTICATED
        started = asyncio.get_running_loop().time()
        assert await agent.reply(STATUS, STATUS_OF_BIRDS, metadata=bearer("x")) == grpc.StatusCode.UNAUTHENTICATED
        assert asyncio.get_running_loop().time() - started >= 0.25
        assert agent.requests.failures == ["unknown", "malformed", "unknown", "unknown"]


@pytest.mark.anyio
async def test_client_without_a_token_is_refused_before_its_message_is_read(tmp_path: Path) -> None:
    rules = AccessRules(tokens=TokensFile(tmp_path / "none", is_required=True), is_local=False)
    async with rpc_agent(rules=rules) as agent:
        call = agent.channel.stream_unary(PREDICT)()  # sends nothing
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call, 10)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert "no access tokens yet" in str(caught.value.details())


@pytest.mark.anyio
async def test_malformed_and_missing_messages_are_invalid() -> None:
    async with rpc_agent() as agent:
        error = await agent.refused(PREDICT, b"\xff\xff\xff")
        assert (error.code(), error.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "The message is not a valid PredictRequest.",
        )
        call = agent.channel.stream_unary(PREDICT)(iter(()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call, 10)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert agent.requests.answers == [(PREDICT, "INVALID_ARGUMENT")] * 2


@pytest.mark.anyio
async def test_message_that_does_not_arrive_in_time_is_refused() -> None:
    async with rpc_agent(message_timeout_s=0.1) as agent:
        call = agent.channel.stream_unary(PREDICT)()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call, 10)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert caught.value.details() == "The message did not arrive within 0.1 s. Send it again."


@pytest.mark.anyio
@pytest.mark.parametrize("path", [CHECK, WATCH, STATUS])
async def test_client_that_never_completes_its_messages_gets_few_places_for_them(path: str) -> None:
    async with rpc_agent() as agent:
        calls = [agent.channel.stream_stream(path)() for _ in range(20)]  # nothing arrives
        ended = asyncio.as_completed([call.code() for call in calls], timeout=10)
        assert {await next(ended) for _ in range(14)} == {grpc.StatusCode.UNAVAILABLE}
        for call in calls:
            call.cancel()


@pytest.mark.anyio
async def test_too_large_message_is_refused() -> None:
    async with rpc_agent() as agent:
        assert await agent.reply(PREDICT, request(bytes(MAX_MESSAGE_BYTES))) == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await agent.reply(STATUS, STATUS_OF_BIRDS) == grpc.StatusCode.OK


@pytest.mark.anyio
async def test_compressed_message_is_refused() -> None:
    async with rpc_agent() as agent:
        bomb = request(bytes(MAX_MESSAGE_BYTES * 50))
        assert await agent.reply(PREDICT, bomb, compression=grpc.Compression.Gzip) == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.anyio
async def test_busy_agent_says_when_to_retry() -> None:
    async with rpc_agent(max_waiting=0) as agent:
        blocked = await agent.run.block_worker()
        calls = [asyncio.create_task(agent.refused(PREDICT, request(JPEG))) for _ in range(2)]
        (refused,), (waiting,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        error = refused.result()
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert ("grpc-retry-pushback-ms", "1000") in tuple(error.trailing_metadata())
        agent.run.release()
        await blocked
        with pytest.raises(AssertionError, match="was not refused"):
            await waiting


@pytest.mark.anyio
async def test_request_takes_a_place_for_each_worker_it_uses() -> None:
    async with rpc_agent(workers=2, max_waiting=2, per_client=1) as agent:
        await agent.run.block_all_workers()
        calls = [asyncio.create_task(agent.refused(PREDICT, request(JPEG, JPEG))) for _ in range(2)]
        (refused,), (waiting,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert refused.result().details() == "Too many uploads wait for a worker. Retry later."  # one stays for others
        agent.run.release()
        with pytest.raises(AssertionError, match="was not refused"):
            await waiting


@pytest.mark.anyio
async def test_expired_deadline_frees_its_place() -> None:
    async with rpc_agent(max_waiting=0) as agent:
        blocked = await agent.run.block_worker()
        message = request(JPEG)
        call = agent.channel.unary_unary(PREDICT)(message.SerializeToString(), timeout=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        agent.run.release()
        await blocked
        while await agent.reply(PREDICT, message) == grpc.StatusCode.UNAVAILABLE:
            pass
        assert await agent.reply(PREDICT, message) == grpc.StatusCode.OK


@pytest.mark.anyio
async def test_bug_is_internal_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with rpc_agent() as agent:
        agent.run.models.statuses = None  # type: ignore[assignment]
        error = await agent.refused(STATUS, STATUS_OF_BIRDS)
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "Internal error; see the agent's log.")
        assert f"{STATUS} failed." in caplog.text


@pytest.mark.anyio
async def test_refused_message_is_not_kept() -> None:
    def kept() -> int:
        return sum(type(each) is tfs.PredictRequest for each in gc.get_objects())

    gc.collect()
    before = kept()  # those of other tests
    gc.disable()  # a message of 8 MB must not wait for it
    try:
        async with rpc_agent() as agent:
            assert await agent.reply(PREDICT, request(b"no image")) == grpc.StatusCode.INVALID_ARGUMENT
            assert await agent.reply(PREDICT, b"") == grpc.StatusCode.INVALID_ARGUMENT
            agent.run.heard.refusals.clear()
            await until(lambda: kept() == before)
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_client_that_leaves_during_its_answer_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with rpc_agent():
        for error in (cygrpc.ExecuteBatchError("Failed"), ValueError("a bug")):
            logging.getLogger("grpc._cython.cygrpc").error("raised in core", exc_info=error)
        errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
        assert list(map(repr, errors)) == ["ValueError('a bug')"]


@pytest.mark.anyio
async def test_answers_are_counted_by_method_and_code() -> None:
    async with rpc_agent() as agent:
        await agent.reply(STATUS, STATUS_OF_BIRDS)
        await agent.reply("/invented/Path", b"")
        assert agent.requests.answers == [(STATUS, "OK"), ("other", "UNIMPLEMENTED")]


@pytest.mark.anyio
async def test_health_follows_readiness_and_liveness() -> None:
    async with rpc_agent() as agent:

        async def status(service: str = "") -> str:
            answer = await agent.call(CHECK, health_pb2.HealthCheckRequest(service=service), Status)
            return str(Status.ServingStatus.Name(answer.status))

        assert [await status(each) for each in ("", "liveness", "tensorflow.serving.ModelService")] == ["SERVING"] * 3
        agent.health.not_ready = ["No model is served yet."]
        assert [await status(each) for each in ("", "readiness", "liveness")] == [
            "NOT_SERVING",
            "NOT_SERVING",
            "SERVING",
        ]
        agent.health.hangs = "An inference has been running for 61 s."
        assert await status("liveness") == "NOT_SERVING"
        error = await agent.refused(CHECK, health_pb2.HealthCheckRequest(service="x"))
        assert error.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.anyio
async def test_watch_sends_each_change_and_the_end() -> None:
    async with rpc_agent() as agent:
        watch = agent.channel.unary_stream(WATCH, response_deserializer=Status.FromString)
        call = watch(health_pb2.HealthCheckRequest().SerializeToString(), timeout=20)
        unknown = watch(health_pb2.HealthCheckRequest(service="x").SerializeToString(), timeout=20)
        assert (await call.read()).status == Status.SERVING
        assert (await unknown.read()).status == Status.SERVICE_UNKNOWN
        agent.health.not_ready = ["No model is served yet."]
        assert (await call.read()).status == Status.NOT_SERVING
        agent.health.not_ready = []
        assert (await call.read()).status == Status.SERVING
        started = asyncio.get_running_loop().time()
        await agent.server.stop()
        assert (await call.read()).status == Status.NOT_SERVING
        assert await call.read() is grpc.aio.EOF
        assert asyncio.get_running_loop().time() - started < 1.5


@pytest.mark.anyio
async def test_port_in_use_is_reported_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartError) as caught:
        async with rpc_agent(port=taken.getsockname()[1]):
            pass
    assert str(caught.value).endswith(
        "Address already in use. Stop the program that uses the port, or correct grpc.host and grpc.port."
    )


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("ipv6:[::1]:50000", "::1"),
        ("unix:", ""),
    ],
)
def test_peer_has_the_address_of_the_client(peer: str, address: str) -> None:
    assert client_address(peer) == address


@pytest.mark.anyio
async def test_message_with_too_many_fields_is_refused_before_it_is_parsed() -> None:
    async with rpc_agent() as agent:
        error = await agent.refused(PREDICT, tfs.PredictRequest(output_filter=[""] * 10_000))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert error.details().startswith("The message has more than 4096 fields.")
