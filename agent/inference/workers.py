"""Workers: threads that run functions for the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Call(NamedTuple):
    future: asyncio.Future[Any]
    function: Callable[[int], Any]


class Workers:
    """They take the calls in the order of arrival.

    ThreadPoolExecutor does the same, but its locks take 40 µs more per call, most of it on the event loop's thread.
    """

    def __init__(self, count: int, *, name: str = "worker") -> None:
        """The threads have `name` and a number."""
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._are_running = self._are_closed = False
        self.count = count

    def run(self, function: Callable[[int], T]) -> asyncio.Future[T]:
        """Calls `function` with the number of the worker. Call it on the loop's thread; the first call starts them."""
        if self._are_closed:
            raise RuntimeError("the workers are closed")
        if not self._are_running:
            self._start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(future, function))
        return future

    def close(self) -> None:
        """Cancels the calls that wait; does not wait for a call that hangs."""
        self._are_closed = True
        with contextlib.suppress(Empty):
            while (call := self._calls.get_nowait()) is not None:
                call.future.cancel()
        for _ in range(self.count):
            self._calls.put(None)

    def _start(self) -> None:
        self._are_running = True
        for number in range(self.count):
            threading.Thread(target=self._work, args=(number,), name=f"{self._name}-{number}").start()

    def _work(self, number: int) -> None:
        while (call := self._calls.get()) is not None:
            if not call.future.cancelled():
                _run(call, number)
            del call  # otherwise an idle worker would keep the last model in memory


def _run(call: _Call, number: int) -> None:
    try:
        result = call.function(number)
    except BaseException as error:  # noqa: BLE001  (the caller gets it)
        _announce(call.future, None, error)
    else:
        _announce(call.future, result, None)
    finally:
        del call  # an error holds this frame; if that held the error, both would keep the image until a full collection


def _announce(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed while the call was running
        future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():  # its caller was canceled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
