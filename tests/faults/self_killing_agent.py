"""Self-killing agent: an edge-agent that kills itself at one point while it admits or loads one model file.

Usage: `python self_killing_agent.py POINT SHA256 edge-agent run --config FILE`, where POINT is a key of POINTS. The
product has no hooks for this. This script wraps one function of the product or of the system before calling main().
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from agent import cli
from agent.models import copying, loader, store
from agent.models.admission import Admission
from agent.models.history import History
from agent.models.serving import Serving
from agent.models.trial import Trial
from agent.runtimes import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

_HISTORY, _NOTE = "history.json", ".rejected.txt"


def main() -> None:
    point, sha256 = sys.argv[1:3]
    POINTS[point](sha256)
    del sys.argv[:3]
    cli.main()


def _before_the_copy(sha256: str) -> None:
    _die_before(store.Store, "put", lambda _, source, **__: _has(source, sha256))


def _halfway_through_the_copy(sha256: str) -> None:
    copied = copying.copy_file

    def halved(source: BinaryIO, target: BinaryIO, *, max_bytes: int) -> copying.Copy:
        content = Path(f"/proc/self/fd/{source.fileno()}").read_bytes()
        if hashlib.sha256(content).hexdigest() == sha256:
            target.write(content[: len(content) // 2])
            target.flush()
            _die()
        return copied(source, target, max_bytes=max_bytes)

    _replace(store, "copy_file", halved)


def _before_the_copy_is_flushed(sha256: str) -> None:
    _die_before(os, "fsync", lambda descriptor: _has(Path(f"/proc/self/fd/{descriptor}"), sha256))


def _before_the_copy_is_renamed(sha256: str) -> None:
    _die_before(os, "replace", lambda _, target: Path(target).stem == sha256)


def _after_the_copy_is_renamed(sha256: str) -> None:
    _die_after(os, "replace", lambda _, target: Path(target).stem == sha256)


def _before_the_checksum_is_compared(sha256: str) -> None:
    _die_before(Admission, "_matches_checksum", lambda _self, drop: _sha256_of(drop.path) == sha256)


def _sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _once_the_trial_process_has_started(sha256: str) -> None:
    _die_during_the_trial(sha256, lambda _child: True)


def _during_the_trial(sha256: str) -> None:
    _die_during_the_trial(sha256, _has_numpy)


def _once_the_trial_is_over(sha256: str) -> None:
    _die_after(Trial, "run", lambda _self, path, _overrides: path.stem == sha256)


def _before_the_history_is_saved(sha256: str) -> None:
    _die_before(History, "save", lambda self: sha256 in self.copies)


def _before_the_history_is_flushed(sha256: str) -> None:
    _die_before(os, "fsync", lambda descriptor: _is_history(Path(f"/proc/self/fd/{descriptor}").resolve(), sha256))


def _before_the_history_is_renamed(sha256: str) -> None:
    _die_before(os, "replace", lambda source, _target: _is_history(Path(source), sha256))


def _before_the_load(sha256: str) -> None:
    _die_before(loader.Loader, "load", lambda _self, _name, version: version.sha256 == sha256)


def _between_two_interpreters(sha256: str) -> None:
    made: list[Any] = []

    def is_second(model: Any, *_: object, **__: object) -> bool:
        made.extend([model] if hashlib.sha256(model.content).hexdigest() == sha256 else [])
        return len(made) == 2

    _die_before(runtime, "TFLiteClassifier", is_second)


def _before_the_swap(sha256: str) -> None:
    _die_before(Serving, "_swap", lambda *arguments: _swaps_in(sha256, *arguments))


def _after_the_swap(sha256: str) -> None:
    _die_after(Serving, "_swap", lambda *arguments: _swaps_in(sha256, *arguments))


def _while_old_copies_are_removed(sha256: str) -> None:
    _die_after(Path, "unlink", lambda path, **_: path.suffix == ".tflite" and path.with_stem(sha256).exists())


def _while_a_note_is_written(sha256: str) -> None:
    """At this point the note exists and is empty."""
    _die_after(os, "open", lambda path, flags, *_, **__: flags & os.O_CREAT and _is_note(str(path), sha256))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_before(owner: Any, name: str, concerns: Callable[..., object]) -> None:
    original = getattr(owner, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        if concerns(*arguments, **options):
            _die()
        return original(*arguments, **options)

    _replace(owner, name, dying)


def _die_after(owner: Any, name: str, concerns: Callable[..., object]) -> None:
    original = getattr(owner, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if concerns(*arguments, **options):
            _die()
        return result

    _replace(owner, name, dying)


def _die_during_the_trial(sha256: str, is_the_moment: Callable[[Path], bool]) -> None:
    run = Trial.run

    def wait_and_die() -> None:
        while not any(map(is_the_moment, _children())):
            time.sleep(0.001)
        _die()

    def dying(self: Trial, path: Path, overrides: Any) -> Any:
        if path.stem == sha256:
            threading.Thread(target=wait_and_die).start()
        return run(self, path, overrides)

    _replace(Trial, "run", dying)


def _children() -> list[Path]:
    """The /proc folder of each child process."""
    tasks = Path("/proc/self/task").iterdir()
    return [Path("/proc", pid) for task in tasks for pid in (task / "children").read_text().split()]


def _replace(owner: Any, name: str, by: Any) -> None:
    setattr(owner, name, by)


def _has(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _is_history(path: Path, sha256: str) -> bool:
    return _HISTORY in path.name and sha256.encode() in path.read_bytes()


def _is_note(path: str, sha256: str) -> bool:
    return path.endswith(_NOTE) and _has(Path(path.removesuffix(_NOTE)), sha256)


def _has_numpy(process: Path) -> bool:
    """The process loads numpy after it has limited its memory and before it loads the model."""
    try:
        return "numpy" in (process / "maps").read_text()
    except OSError:
        return False


def _swaps_in(sha256: str, _self: Serving, _label: str, _name: str, version: Any, *_loaded: Any) -> bool:
    return version is not None and version.sha256 == sha256


# In the order in which the agent passes them.
POINTS: dict[str, Callable[[str], None]] = {
    "before the copy": _before_the_copy,
    "halfway through the copy": _halfway_through_the_copy,
    "before the copy is flushed": _before_the_copy_is_flushed,
    "before the copy is renamed": _before_the_copy_is_renamed,
    "after the copy is renamed": _after_the_copy_is_renamed,
    "before the checksum is compared": _before_the_checksum_is_compared,
    "once the trial process has started": _once_the_trial_process_has_started,
    "during the trial": _during_the_trial,
    "once the trial is over": _once_the_trial_is_over,
    "before the history is saved": _before_the_history_is_saved,
    "before the history is flushed": _before_the_history_is_flushed,
    "before the history is renamed": _before_the_history_is_renamed,
    "before the load": _before_the_load,
    "between two interpreters": _between_two_interpreters,
    "before the swap": _before_the_swap,
    "after the swap": _after_the_swap,
    "while old copies are removed": _while_old_copies_are_removed,
    "while a note is written": _while_a_note_is_written,
}

if __name__ == "__main__":
    main()
