"""Process: this process's allocator and garbage collector, cores, tie to its parent and claim on the state folder."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import logging
import os
import signal
from typing import TYPE_CHECKING

from agent.errors import StartError
from agent.host.access import explain

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # of prctl(2)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Lets glibc keep up to 16 MB per thread instead of returning it to the kernel after every image.

    Otherwise the next image of the same size needs 330 page faults to get it back, a tenth of the time of an
    upload. See mallopt(3); musl has no such call and does not need it.
    """
    _mallopt(_M_MMAP_THRESHOLD, 7 << 20)  # a frame of 1080p is kept (6.2 MB), an upload of the maximum size is not
    _mallopt(_M_TRIM_THRESHOLD, 16 << 20)


def share_freed_memory() -> None:
    """Lets all threads that start from now on share two pools of freed memory, which are otherwise one per thread.

    gRPC receives each message in another of its threads: the pools of all kept 45 MB after large messages.
    """
    _mallopt(_M_ARENA_MAX, 2)


def _mallopt(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)


def freeze_startup_objects() -> None:
    """Excludes all objects created at startup from garbage collection, since they stay until the end.

    Scanning them took a tenth of the time of a request, all of it with the interpreter's lock held.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)


def usable_cores() -> int:
    """Those on which this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def die_with_parent(parent: int) -> bool:
    """Lets the kernel kill this process when the thread that started it ends; False if `parent` is gone already."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


@contextlib.contextmanager
def claimed(state_folder: Path) -> Generator[None]:
    """Locks the state folder: two agents that share one would remove each other's models. Raises StartError."""
    try:
        state_folder.mkdir(parents=True, exist_ok=True)
        lock = (state_folder / "lock").open("wb")
    except OSError as error:  # read-only: the store reports it later and retries
        why = explain(error, state_folder, write=True)
        if _is_closed(state_folder):  # that of another user, whose agent may be running
            raise StartError(f"device.state_folder {state_folder} cannot be used: {why}") from None
        log.warning(
            "Cannot write to device.state_folder %s, so that nothing will be kept after a restart: %s",
            state_folder,
            why,
        )
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"Another running agent uses device.state_folder {state_folder}. Stop that agent, or give this one its "
                "own folder."
            ) from None
        yield


def _is_closed(folder: Path) -> bool:
    try:
        os.scandir(folder).close()
    except OSError as error:
        return isinstance(error, PermissionError)
    return False
