from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import wait_until
from agents.site import until

from agent.inference.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def open_workers(count: int) -> Iterator[Workers]:
    workers = Workers(count)
    try:
        yield workers
    finally:
        workers.close()


class Large:
    """Stands for a model."""


@pytest.mark.anyio
async def test_calls_run_in_parallel_and_get_the_number_of_their_worker() -> None:
    both = threading.Barrier(2, timeout=10)

    def meet(number: int) -> int:
        both.wait()
        return number

    with open_workers(2) as workers:
        assert sorted(await asyncio.gather(workers.run(meet), workers.run(meet))) == [0, 1]


@pytest.mark.anyio
async def test_error_reaches_the_caller_and_the_worker_goes_on() -> None:
    def fail(_: int) -> None:
        raise ValueError("no")

    with open_workers(1) as workers:
        with pytest.raises(ValueError, match="no"):
            await workers.run(fail)
        assert await workers.run(lambda number: number) == 0


@pytest.mark.anyio
async def test_canceled_call_is_not_run() -> None:
    release = threading.Event()
    ran: list[int] = []
    with open_workers(1) as workers:
        first = workers.run(lambda _: release.wait(10))
        second = workers.run(ran.append)
        second.cancel()
        release.set()
        assert await first
        await workers.run(lambda _: None)
    assert not ran


@pytest.mark.anyio
async def test_close_cancels_the_calls_that_wait_and_ends_the_threads() -> None:
    started, release = threading.Event(), threading.Event()

    def hang(_: int) -> threading.Thread:
        started.set()
        release.wait(10)
        return threading.current_thread()

    with open_workers(1) as workers:
        running, waiting = workers.run(hang), workers.run(lambda _: None)
        await asyncio.to_thread(started.wait, 10)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        workers.run(lambda _: None)
    release.set()
    thread = await running
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


@pytest.mark.anyio
async def test_idle_worker_keeps_nothing_of_its_last_call() -> None:
    large = Large()
    gone = weakref.ref(large)

    def use(large: Large) -> None:
        assert isinstance(large, Large)

    with open_workers(1) as workers:
        await workers.run(lambda _, large=large: use(large))  # type: ignore[misc]  # mypy cannot infer the lambda
        del large
        wait_until(lambda: gone() is None, what="the object is freed")


@pytest.mark.anyio
async def test_error_is_freed_at_once_with_all_that_its_frames_hold() -> None:
    def fail(_: int) -> None:
        held = Large()
        freed.append(weakref.ref(held))
        raise ValueError("no")

    freed: list[weakref.ref[Large]] = []
    gc.disable()  # in a running agent, hours may pass until it looks for old objects
    try:
        with open_workers(1) as workers:
            with contextlib.suppress(ValueError):
                await workers.run(fail)
            await until(lambda: freed[0]() is None)
    finally:
        gc.enable()
