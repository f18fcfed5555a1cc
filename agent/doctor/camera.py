"""Camera: checks whether a camera gives a picture."""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from contextlib import closing
from typing import TYPE_CHECKING

from agent.doctor.finding import WITH_DETAILS, Finding, fault, ok, warning
from agent.errors import ConfigError
from agent.remote import RemoteAgent
from agent.sources.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.camera import CameraSection
    from agent.image import Frame
    from agent.status import CameraStatus

_TIMEOUT_S = 15.0  # FFmpeg takes up to two timeouts of 4 s to open a stream
_RECENT_S = 30.0


def check_camera(
    name: str,
    camera: CameraSection,
    *,
    agent_url: str | None = None,
    token: str | None = None,
    cert_file: Path | None = None,
) -> Finding:
    """Asks the agent at `agent_url` first: many a camera that it has open cannot be opened again. Blocks.

    `cert_file` is the certificate of the agent, with TLS.
    """
    about = f"camera {name}"
    age_s = _age_of_last_frame_s(agent_url, name, token, cert_file) if agent_url else float("inf")
    if age_s is not None and age_s < _RECENT_S + 2 / camera.max_fps:
        return ok(about, "gives pictures to the running agent")
    answer = asyncio.run(_first_frame(camera))
    if isinstance(answer, str) and age_s is None:
        return warning(about, f"The running agent may have it open: {answer}", WITH_DETAILS)
    if isinstance(answer, str):
        return fault(about, answer, "Fix that; the agent retries automatically.")
    return ok(about, f"gave a picture of {answer.image.width} x {answer.image.height} pixels")


async def _first_frame(camera: CameraSection) -> Frame | str:
    """A frame or, in a sentence, why there is none."""
    trouble = asyncio.get_running_loop().create_future()

    def on_status(status: CameraStatus) -> None:
        if status.reason and not trouble.done():
            trouble.set_result(status.reason)

    opened = open_source(
        camera.source,
        loop=False,
        on_status=on_status,
        username=camera.username,
        password_file=camera.password_file,
        options=camera.capture_options,
    )
    with closing(opened) as source:
        reading = asyncio.ensure_future(source.read())
        await asyncio.wait((reading, trouble), timeout=_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and (frame := reading.result()) is not None:
            return frame
        reading.cancel()
        return trouble.result() if trouble.done() else f"It gave no picture within {_TIMEOUT_S:.0f} s."


def _age_of_last_frame_s(agent_url: str, name: str, token: str | None, cert_file: Path | None) -> float | None:
    """Infinite if no agent answers, or if it got no frame of this camera; None if the agent refuses to say."""
    try:
        code, metrics = RemoteAgent(agent_url, token=token, cert_file=cert_file, timeout_s=5.0).get("/metrics")
    except (OSError, http.client.HTTPException, ConfigError):
        return float("inf")
    metric = rf'^edge_agent_camera_last_frame_timestamp_seconds{{camera="{re.escape(name)}"}} (\S+)$'
    if code in (401, 403):
        return None
    found = re.search(metric, metrics.decode("utf-8", "replace"), re.MULTILINE)
    return time.time() - float(found[1]) if found else float("inf")
