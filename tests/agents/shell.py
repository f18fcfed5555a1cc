"""Shell: runs the command line in this process and captures its output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent import cli

if TYPE_CHECKING:
    import pytest


class Shell:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        self.out = self.err = ""

    def run(self, *words: object) -> int:
        self._monkeypatch.setenv("COLUMNS", "200")
        code = 0
        try:
            cli.main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        self.out, self.err = self._capfd.readouterr()
        self.err = "".join(line for line in self.err.splitlines(keepends=True) if "XNNPACK" not in line)
        return code

    def json(self, *words: object) -> Any:
        assert self.run(*words, "--json") == 0, self.err
        return json.loads(self.out)
