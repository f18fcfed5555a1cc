"""Camera: checks whether a camera gives pictures, how many, how bright and how fresh."""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.doctor.finding import WITH_DETAILS, Finding, fault, ok, warning
from agent.errors import ConfigError, ImageError, SourceError
from agent.remote import RemoteAgent
from agent.sources.inbox_folder import InboxFolder
from agent.sources.source import INBOX, is_file_source, is_inbox, open_source

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.camera import CameraSection
    from agent.frame import Frame
    from agent.image import Image
    from agent.sources.source import Source
    from agent.status import CameraStatus

_TIMEOUT_S = 15.0  # FFmpeg takes up to two timeouts of 4 s to open a stream
_RECENT_S = 30.0
_FIX = "Fix that; the agent retries automatically."
_MEASURED_S = 2.0
_MAX_FRAMES = 200  # a folder gives as many as the processor can decode
_DARK, _BRIGHT = 0.04, 0.96  # mean brightness: a covered lens, a sensor that sees only white
_LATE_S = 0.5
_CONTROLS = " `edge-agent cameras` lists the controls of a camera."
_STEADY = 0.8  # of the rate that is needed; the measurement is short


@dataclass(frozen=True, slots=True)
class _Measured:
    """`late_s` is from the arrival of a frame to its decoded picture; `fps` is None unless the source is live."""

    picture: Image
    fps: float | None
    late_s: float

    @property
    def brightness(self) -> float:
        return float(self.picture.pixels.mean()) / 255

    def __str__(self) -> str:
        facts = [f"gave a picture of {self.picture.width} x {self.picture.height} pixels"]
        facts += [f"{self.fps:.3g} frames/s"] if self.fps is not None else []
        return ", ".join(
            [*facts, f"brightness {self.brightness:.0%}", f"{self.late_s * 1000:.0f} ms after its arrival"]
        )


def check_camera(
    name: str,
    camera: CameraSection,
    *,
    agent_url: str | None = None,
    token: str | None = None,
    cert_file: Path | None = None,
    measured_s: float = _MEASURED_S,
) -> Finding:
    """Asks the agent at `agent_url` first: many a camera that it has open cannot be opened again. Blocks.

    `cert_file` is the certificate of the agent, with TLS.
    """
    about = f"camera {name}"
    if is_inbox(camera.source):
        return _check_inbox(about, camera)
    age_s = _age_of_last_frame_s(agent_url, name, token, cert_file) if agent_url else float("inf")
    if age_s is not None and age_s < _RECENT_S + 2 / camera.max_fps:
        return ok(about, "gives pictures to the running agent")
    answer = asyncio.run(_measure(camera, measured_s))
    if isinstance(answer, str) and age_s is None:
        return warning(about, f"The running agent may have it open: {answer}", WITH_DETAILS)
    if isinstance(answer, str):
        return fault(about, answer, _FIX)
    return _judge(about, camera, answer)


def _judge(about: str, camera: CameraSection, measured: _Measured) -> Finding:
    fact = str(measured)
    if measured.brightness < _DARK:
        return warning(about, f"Too dark: {fact}.", f"Uncover the lens, add light, or raise the exposure.{_CONTROLS}")
    if measured.brightness > _BRIGHT:
        return warning(about, f"Too bright: {fact}.", f"Turn it away from the light, or lower the exposure.{_CONTROLS}")
    needed = min(camera.max_fps, camera.fps or camera.max_fps)
    if measured.fps is not None and measured.fps < _STEADY * needed:
        return warning(
            about,
            f"Slower than the {needed:g} frames/s that are configured: {fact}.",
            "Add light, since cameras expose longer in the dark; choose a smaller size or format mjpeg; "
            "check cable and network; or lower max_fps.",
        )
    if measured.late_s > _LATE_S:
        return warning(about, f"Late: {fact}.", "The device is too busy for this picture: choose a smaller size.")
    return ok(about, fact)


def _check_inbox(about: str, camera: CameraSection) -> Finding:
    """Takes no image: each is classified once, by the agent."""
    try:
        InboxFolder.of(camera.source, after=camera.after).check()
    except SourceError as trouble:
        return fault(about, str(trouble), _FIX)
    return ok(about, f"may take images from {camera.source.removeprefix(INBOX)}")


async def _measure(camera: CameraSection, measured_s: float) -> _Measured | str:
    """Measures for `measured_s` from the first frame on; a sentence if there is none."""
    trouble = asyncio.get_running_loop().create_future()

    def on_status(status: CameraStatus) -> None:
        if status.reason and not trouble.done():
            trouble.set_result(status.reason)

    opened = open_source(
        camera.origin,
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
            try:
                return await _follow(source, frame, measured_s, is_live=not is_file_source(camera.origin))
            except ImageError as error:
                return str(error)
        reading.cancel()
        return trouble.result() if trouble.done() else f"It gave no picture within {_TIMEOUT_S:.0f} s."


async def _follow(source: Source, frame: Frame, measured_s: float, *, is_live: bool) -> _Measured:
    """Counts the frames that follow `frame`, and decodes each as the agent does. Raises ImageError."""
    begun_s = last_s = time.monotonic()
    count, late_s, picture, has_ended = 0, 0.0, frame.image(), False
    while count < _MAX_FRAMES and not has_ended:
        late_s = time.monotonic() - frame.captured_ns / 1e9
        reading = asyncio.ensure_future(source.read())
        done, _ = await asyncio.wait((reading,), timeout=max(0.0, begun_s + measured_s - time.monotonic()))
        if not done:
            reading.cancel()
            break
        following = reading.result()
        has_ended = following is None
        if following is not None:
            count, last_s, frame = count + 1, time.monotonic(), following
            picture = frame.image()
    # Over the whole time if the camera stopped in the middle of it.
    span_s = max(last_s - begun_s, measured_s * 0.75)
    has_rate = is_live and not has_ended and not source.has_own_pace
    return _Measured(picture, count / span_s if has_rate else None, late_s)


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
