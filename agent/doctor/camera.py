"""Camera: whether it can be got at from here."""

from __future__ import annotations

import os
from pathlib import Path

from agent.doctor.finding import Finding, fault, ok
from agent.sources.stream import redact, why_unreachable

_PATIENCE_S = 5.0


def check_camera(name: str, source: str) -> Finding:
    """Opens nothing: a camera that the agent has open cannot be opened again."""
    about = f"camera {name}"
    if "://" in source:
        return _check_stream(about, source)
    path = Path(f"/dev/video{source}" if source.isdecimal() else source)
    if not os.path.exists(path):  # noqa: PTH110  (Path raises for a closed folder)
        if path.is_relative_to("/dev"):
            return fault(about, f"There is no {path}.", "Plug it in; v4l2-ctl --list-devices shows what is there.")
        return fault(about, f"There is no file or folder {path}.", "Put it there, or correct its source.")
    if path.is_char_device() and not os.access(path, os.R_OK | os.W_OK):
        return fault(
            about, f"{path} may not be opened by this user.", "sudo usermod -aG video $USER, then log in again."
        )
    if not os.access(path, os.R_OK):
        return fault(about, f"{path} may not be read by this user.", f"sudo chmod a+r {path}")
    return ok(about, f"{path} is there")


def _check_stream(about: str, url: str) -> Finding:
    if why := why_unreachable(url, timeout_s=_PATIENCE_S):
        return fault(about, why, "Fix that; the agent retries automatically.")
    return ok(about, f"{redact(url)} answers")
