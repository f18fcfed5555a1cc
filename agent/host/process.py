"""Process: the allocator and the garbage collector of this process, and its claim on the state folder."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import logging
from typing import TYPE_CHECKING

from agent.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Lets glibc keep up to 16 MB a thread that it would give back to the kernel after every image.

    The next image of the same size took 330 page faults to get it again, a tenth of the time of an upload.
    mallopt(3); the musl library has no such call and no such habit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 8 << 20)
        mallopt(_M_TRIM_THRESHOLD, 16 << 20)


def spare_the_collector() -> None:
    """What start-up made stays for good: Python's garbage collector need not look at it again and again.

    It took a tenth of the time of a request, all of it with the interpreter's lock held.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)


@contextlib.contextmanager
def claimed(state_folder: Path) -> Generator[None]:
    """Two agents with one state folder would each remove the other's models."""
    try:
        state_folder.mkdir(parents=True, exist_ok=True)
        lock = (state_folder / "lock").open("wb")
    except OSError as error:  # read-only: the store will say so, and be tried again
        log.warning(
            "device.state_folder %s cannot be written: %s. Nothing will outlast a restart.",
            state_folder,
            error.strerror,
        )
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"device.state_folder {state_folder} is used by another agent that runs. Stop that one, or give this "
                "one a folder of its own."
            ) from None
        yield
