"""Door: what every gRPC request passes: who may call, how many at a time, how large, and what errors become."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from agent.errors import (
    AgentError,
    BusyError,
    ImageError,
    ImageTooLargeError,
    ModelError,
    ModelNotFoundError,
    ModelNotReadyError,
    TensorError,
)
from agent.inference.server_timing import server_timing
from agent.inference.share import Share
from agent.rpc.parts import MAX_PARTS, TooManyPartsError, check_parts
from agent.security.access import Guard, too_many_wrong_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from google.protobuf.message import Message

    from agent.inference.inferred import Inferred
    from agent.inference.inferring import MorePlaces
    from agent.security.access import AccessRules, Refusal
    from agent.security.tokens import Scope

log = logging.getLogger(__name__)

NO_LOADING = "The agent loads models from its drop folder. Copy a file there, or remove it, to change what is served."

_CODES: tuple[tuple[type[AgentError], grpc.StatusCode], ...] = (
    (ModelNotReadyError, grpc.StatusCode.UNAVAILABLE),
    (ModelNotFoundError, grpc.StatusCode.NOT_FOUND),
    (BusyError, grpc.StatusCode.UNAVAILABLE),
    (ImageTooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ImageError, grpc.StatusCode.INVALID_ARGUMENT),
    (TensorError, grpc.StatusCode.INVALID_ARGUMENT),
    (ModelError, grpc.StatusCode.UNAVAILABLE),  # the runtime failed on this image; another version may succeed
)
_PUSHBACK = "grpc-retry-pushback-ms"  # clients that retry automatically wait as long
_MAX_WATCHERS = 64
# Messages that are no inference, which strangers may send too, arrive at once. Each may fill grpc.max_message_bytes.
_MAX_SMALL, _SMALL_PER_CLIENT, _SMALL_TIMEOUT_S = 8, 2, 5.0
_LARGE_BYTES = 16 << 10  # messages up to this size cannot become large objects
_NO_RETRY: tuple[tuple[str, str], ...] = ()


class Requests(Protocol):
    """Counts each answer by its method and code, and each missing or wrong token."""

    def answered(self, method: str, code: str) -> None: ...
    def auth_failed(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Method:
    """`scope` is what a token needs; None: the method is free for everyone. `answer` raises AgentError."""

    request: type[Message]
    scope: Literal["read"] | None
    answer: Callable[[Any], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Inference:
    """A method for the scope `infer`. The door holds one place for it; `answer` holds further ones with MorePlaces.

    The trailing metadata of the answer say how long the images took.
    """

    request: type[Message]
    answer: Callable[[Any, MorePlaces], Awaitable[tuple[Message, Iterable[Inferred]]]]
    scope: Literal["infer"] = "infer"


@dataclass(frozen=True, slots=True)
class Watch:
    """A method that answers with a stream, free for everyone."""

    request: type[Message]
    answer: Callable[[Any], AsyncIterator[Message]]


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A published method that the agent does not offer; `sentence` says what to use instead."""

    sentence: str


class RefusedError(AgentError):
    """Raised for a request that is answered with `code`."""

    def __init__(self, code: grpc.StatusCode, sentence: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.retry_after_s = retry_after_s


class Door(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers all methods. It reads a message only from a client that may call, and that has a place."""

    def __init__(
        self,
        methods: Mapping[str, Method | Inference | Watch | Unsupported],
        *,
        rules: AccessRules,
        requests: Requests,
        places: Share,
        per_client: int,
        message_timeout_s: float,
    ) -> None:
        """`methods` by their paths, such as `/package.Service/Method`.

        Inferences take their places from `places`, which HTTP uses too. Each address may watch the health `per_client`
        times in any case.
        """
        self._methods = methods
        self._requests = requests
        self._guard = Guard(rules, failures=requests, header="the metadata authorization: Bearer TOKEN")
        self._places = places
        self._watchers = Share(_MAX_WATCHERS, guaranteed=per_client, busy="Too many clients watch the health.")
        self._reading = Share(
            _MAX_SMALL, guaranteed=_SMALL_PER_CLIENT, busy="Too many messages are arriving. Retry later."
        )
        self._message_timeout_s = message_timeout_s

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        """Grpc calls it for each request. To grpc every request is a stream, so that the door decides when to read."""
        path = handler_call_details.method
        method = self._methods.get(path)
        if isinstance(method, Watch):
            return grpc.stream_stream_rpc_method_handler(partial(self._stream, path, method))
        return grpc.stream_unary_rpc_method_handler(partial(self._unary, path, method))

    async def _unary(self, path: str, method: Method | Inference | Unsupported | None, _: Any, context: Any) -> Any:
        async def answer() -> Any:
            client = client_address(context.peer())
            await self._admit(context, client, method.scope if isinstance(method, Method | Inference) else "read")
            if not isinstance(method, Method | Inference):
                unknown = f"The agent has no method {path[:200]}. docs/reference/grpc.md lists its methods."
                raise RefusedError(grpc.StatusCode.UNIMPLEMENTED, method.sentence if method else unknown)
            if isinstance(method, Method):
                request = await self._read_small(method.request, context, client)
                return (await method.answer(request)).SerializeToString()
            with self._places.held(client, 1):
                request = await self._read(method.request, context, timeout_s=self._message_timeout_s)
                message, inferred = await method.answer(request, partial(self._places.held, client))
            timing = server_timing(each.result.classification.timing for each in inferred)
            context.set_trailing_metadata((("server-timing", timing),))
            return message.SerializeToString()

        return await self._answered(path if method else "other", context, answer())

    async def _stream(self, path: str, method: Watch, _: Any, context: Any) -> None:
        async def answer() -> None:
            client = client_address(context.peer())
            with self._watchers.held(client, 1):
                request = await self._read_small(method.request, context, client)
                async for message in method.answer(request):
                    await context.write(message.SerializeToString())

        await self._answered(path, context, answer())

    async def _admit(self, context: Any, client: str, needed: Scope | None) -> None:
        """Raises RefusedError for a client that may not call."""
        if needed is None:
            return
        given = [
            value if isinstance(value, bytes) else value.encode("utf-8", "replace")
            for key, value in context.invocation_metadata() or ()
            if key == "authorization"
        ]
        if (refusal := self._guard.refusal(given, needed)) is not None:
            await self._refuse(refusal, client)

    async def _refuse(self, refusal: Refusal, client: str) -> None:
        delay_s = self._guard.count(refusal, client)
        if not await self._guard.hold_back(delay_s):
            sentence = too_many_wrong_tokens(delay_s)
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, sentence, retry_after_s=delay_s)
        is_known = refusal.reason == "scope"
        code = grpc.StatusCode.PERMISSION_DENIED if is_known else grpc.StatusCode.UNAUTHENTICATED
        raise RefusedError(code, refusal.sentence)

    async def _read_small(self, kind: type[Message], context: Any, client: str) -> Message:
        """Grpc has one maximum size for all methods, so what bounds memory is how many messages it reads at a time."""
        with self._reading.held(client, 1):
            return await self._read(kind, context, timeout_s=min(_SMALL_TIMEOUT_S, self._message_timeout_s))

    async def _read(self, kind: type[Message], context: Any, *, timeout_s: float) -> Message:
        try:
            content = await asyncio.wait_for(context.read(), timeout_s)
        except asyncio.TimeoutError:
            late = f"The message did not arrive within {timeout_s:g} s. Send it again."
            raise RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, late) from None
        if content is grpc.aio.EOF:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"The request ends without a {kind.__name__}.")
        try:
            if len(content) > _LARGE_BYTES:
                check_parts(content, kind.DESCRIPTOR)
            return kind.FromString(content)
        except TooManyPartsError:
            parts = f"The message has more than {MAX_PARTS} fields. Send fewer values at once, and numbers packed."
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, parts) from None
        except DecodeError:
            wrong = f"The message is not a valid {kind.__name__}."
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, wrong) from None

    async def _answered(self, name: str, context: Any, answer: Awaitable[Any]) -> Any:  # noqa: RET503  (abort() raises)
        """Counts the answer, and turns errors into status codes."""
        code, sentence, retry = grpc.StatusCode.OK, "", _NO_RETRY
        try:
            return await answer
        except AgentError as error:
            sentence, (code, retry) = str(error), _status(error)
        except asyncio.CancelledError:  # the client is gone or its deadline is over, or the server stops
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception:
            code, sentence = grpc.StatusCode.INTERNAL, "Internal error; see the agent's log."
            log.exception("%s failed.", name)
        finally:
            self._requests.answered(name, code.name)
        # Not above: grpc keeps what abort() raises, which would keep the error, and with it the request's message.
        await context.abort(code, sentence, retry)


def client_address(peer: str) -> str:
    """The address in what grpc calls a peer: `ipv4:192.0.2.1:50000` or `ipv6:%5B::1%5D:50000`."""
    found = re.fullmatch(r"ipv[46]:\[?([^\]]*?)\]?:[0-9]+", unquote(peer))
    return found[1] if found else ""


def _status(error: AgentError) -> tuple[grpc.StatusCode, tuple[tuple[str, str], ...]]:
    if isinstance(error, RefusedError):
        code, wait_s = error.code, error.retry_after_s
    else:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
        wait_s = error.retry_after_s if isinstance(error, BusyError) else None
    return code, () if wait_s is None else ((_PUSHBACK, str(round(wait_s * 1e3))),)
