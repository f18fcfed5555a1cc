"""A watch in each of the folders 0, 1, 2...: number n kills itself with SIGKILL at its n-th write to the disk.

`python self_killing_watch.py FOLDER FIRST LAST`. Writes are flushes, renames and removals. Each watch is a fork, since
imports take much longer than everything else. Prints how each ended; number 0 prints before how often it wrote.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS)]  # as pytest has it

from watch_bed import WatchBed  # noqa: E402

_WRITES = ("fsync", "replace", "rename", "unlink", "rmdir")


def main(folder: Path, first: int, last: int) -> None:
    for number in range(first, last + 1):
        child = os.fork()
        if not child:
            _watch(folder / str(number), last=number)
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _watch(folder: Path, *, last: int) -> None:
    count = 0

    def killing(write: Callable[..., Any]) -> Callable[..., Any]:
        def killed_or_done(*words: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*words, **options)

        return killed_or_done

    watcher = WatchBed.of(folder).watcher()
    for name in _WRITES:
        setattr(os, name, killing(getattr(os, name)))
    troubles = asyncio.run(watcher.run_once())
    assert troubles == ["birds 2 is refused."], troubles
    print(count)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
