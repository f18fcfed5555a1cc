"""Delegate: checks in a child process, since it loads a model, whether XNNPACK really runs the served models."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from agent.doctor.finding import Finding, ok, warning
from agent.host.plain_file import open_plain_file
from agent.runtimes.interpreter import open_interpreter

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 60
_REMEDY = "Do not set ProcSubset=pid in the unit; convert the model to int8 or float32 (edge-convert)."


def check_delegate(copies: Path) -> Finding:
    """Checks the newest model in the store: models there have passed their trial, a dropped file has not."""
    try:
        newest = max((path for path in copies.iterdir() if path.suffix == ".tflite"), key=_age, default=None)
        if newest is None:
            return ok("delegate", "not checked: no model was admitted yet")
        with open_plain_file(newest) as model:
            done = subprocess.run(
                [sys.executable, "-m", "agent.doctor.delegate"],
                stdin=model,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
                cwd="/",
                start_new_session=True,
                **_as_owner(model),
            )
    except FileNotFoundError:
        return ok("delegate", "not checked: no model was admitted yet")
    except PermissionError:
        return ok("delegate", "not checked: only root can read the models of the service")
    except (OSError, subprocess.TimeoutExpired) as error:
        return warning("delegate", f"not checked: {error}", "Restart the board and try again.")
    return _finding(done.stdout)


def main() -> None:
    interpreter = open_interpreter(sys.stdin.buffer.read(), threads=1)
    operators = {str(each["op_name"]) for each in interpreter._get_ops_details()}  # type: ignore[attr-defined]  # noqa: SLF001  (no public way)
    sys.stdout.write("XNNPACK" if "DELEGATE" in operators else "none")


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns


def _as_owner(model: BinaryIO) -> dict[str, Any]:
    """Runs the check as the owner of the file: root must not load a model that another user wrote."""
    owner = os.fstat(model.fileno())
    if os.geteuid() != 0 or owner.st_uid == 0:
        return {}
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def _finding(output: bytes) -> Finding:
    if output.startswith(b"XNNPACK"):
        return ok("delegate", "XNNPACK runs the newest model")
    if output.startswith(b"none"):
        return warning("delegate", "The newest model runs without XNNPACK.", _REMEDY)
    return warning("delegate", "The runtime cannot load the newest model.", _REMEDY)


if __name__ == "__main__":
    main()
