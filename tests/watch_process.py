"""WatchProcess: the real command `edge-convert watch` in its own process, as systemd runs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml
from agents.running_agent import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

EDGE_CONVERT = (sys.executable, "-m", "converter.cli")


class WatchProcess:
    """Keeps source/, output/, reports/ and its recipe in `folder`; `recipe` adds to the keys of the recipe."""

    def __init__(self, folder: Path, *, program: Sequence[str] = (*EDGE_CONVERT, "watch"), **recipe: Any) -> None:
        self.source, self.output, self.reports = (folder / name for name in ("source", "output", "reports"))
        for each in (self.source, self.output):
            each.mkdir(exist_ok=True)
        places = {"source": "source", "output": "output", "reports": "reports", "rest_s": 0.3}
        self.recipe = folder / "watch.yaml"
        self.recipe.write_text(yaml.safe_dump(places | recipe))
        self._program = program
        self._log = folder / "watch.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Appends to the log of an earlier start."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, str(self.recipe)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.process.kill()
            self.process.wait()
            print(self.log)
        elif self.process.poll() is None:
            assert self.end() == 0, self.log

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the watch was not started"
        return self._process

    @property
    def log(self) -> str:
        return self._log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=300)

    def wait_for(self, words: str, *, times: int = 1, timeout_s: float = 300) -> None:
        """Until the log has the words."""
        wait_until(
            lambda: self.log.count(words) >= times or self.process.poll() is not None, timeout_s=timeout_s, what=words
        )
        assert self.log.count(words) >= times, self.log

    def export(self, saved_model: Path, name: str, number: int) -> None:
        """Copies it file by file, as a training pipeline does."""
        shutil.copytree(saved_model, self.source / name / str(number))
        os.sync()

    def model(self, name: str, number: int) -> Path:
        return self.output / name / str(number) / "model.tflite"

    def files(self, folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
