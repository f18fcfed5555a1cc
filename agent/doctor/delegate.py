"""Delegate: whether XNNPACK really computes what is served; a process of its own looks, since it loads a model."""

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
_REMEDY = "Never set ProcSubset=pid in the unit; convert the model to int8 or float32 (edge-convert)."


def check_delegate(copies: Path) -> Finding:
    """Of the newest model in the store: what lies there has passed its trial, what was just dropped has not."""
    try:
        newest = max((path for path in copies.iterdir() if path.suffix == ".tflite"), key=_age, default=None)
        if newest is None:
            return ok("delegate", "not tried: no model was admitted yet")
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
        return ok("delegate", "not tried: no model was admitted yet")
    except PermissionError:
        return ok("delegate", "not tried: only root may look at the models of the service")
    except (OSError, subprocess.TimeoutExpired) as error:
        return warning("delegate", f"not tried: {error}", "Restart the board and try again.")
    return _finding(done.stdout)


def main() -> None:
    interpreter = open_interpreter(sys.stdin.buffer.read(), threads=1)
    operators = {str(each["op_name"]) for each in interpreter._get_ops_details()}  # type: ignore[attr-defined]  # noqa: SLF001  (told nowhere else)
    sys.stdout.write("XNNPACK" if "DELEGATE" in operators else "none")


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns


def _as_owner(model: BinaryIO) -> dict[str, Any]:
    """Root does not load what others have written."""
    owner = os.fstat(model.fileno())
    if os.geteuid() != 0 or owner.st_uid == 0:
        return {}
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def _finding(said: bytes) -> Finding:
    if said.startswith(b"XNNPACK"):
        return ok("delegate", "XNNPACK computes the newest model")
    if said.startswith(b"none"):
        return warning("delegate", "The newest model is computed without XNNPACK.", _REMEDY)
    return warning("delegate", "The runtime does not load the newest model here.", _REMEDY)


if __name__ == "__main__":
    main()
