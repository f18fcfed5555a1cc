"""Camera: checks whether a camera's source can be reached from this device."""

from __future__ import annotations

import os
from pathlib import Path

from agent.doctor.finding import Finding, fault, ok
from agent.sources.address import Address, redact
from agent.sources.reachability import why_unreachable

_TIMEOUT_S = 5.0


def check_camera(name: str, source: str) -> Finding:
    """Does not open the source: a camera that the agent has open cannot be opened again."""
    about = f"camera {name}"
    if "://" in source:
        return _check_stream(about, source)
    path = Path(f"/dev/video{source}" if source.isdecimal() else source)
    if not os.path.exists(path):  # noqa: PTH110  (Path raises for a closed folder)
        if path.is_relative_to("/dev"):
            return fault(
                about, f"{path} does not exist.", "Plug it in; v4l2-ctl --list-devices lists the connected ones."
            )
        return fault(about, f"{path} does not exist.", "Put the file or folder there, or correct the camera's source.")
    if path.is_char_device() and not os.access(path, os.R_OK | os.W_OK):
        return fault(about, f"This user cannot open {path}.", "sudo usermod -aG video $USER, then log in again.")
    if not os.access(path, os.R_OK):
        return fault(about, f"This user cannot read {path}.", f"sudo chmod a+r {path}")
    return ok(about, f"{path} exists")


def _check_stream(about: str, url: str) -> Finding:
    try:
        address = Address.parse(url)
    except ValueError as error:
        return fault(about, f"{redact(url)} {error}", "Fix that; the agent retries automatically.")
    if why := why_unreachable(address, timeout_s=_TIMEOUT_S):
        return fault(about, why, "Fix that; the agent retries automatically.")
    return ok(about, f"{redact(url)} answers")
