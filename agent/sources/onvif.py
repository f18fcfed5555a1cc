"""ONVIF: asks a camera that was found for its streams, with onvif-zeep-async (extra `discovery`)."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.errors import AgentError
from agent.host.extra import command_that_adds
from agent.sources.address import Address, redact_named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.sources.address import Login
    from agent.sources.discovery import Announced

_TIMEOUT_S = 15.0  # for all questions to one camera
_MAX_PROFILES = 16
_MEDIA, _MEDIA2 = "http://www.onvif.org/ver10/media/wsdl", "http://www.onvif.org/ver20/media/wsdl"
_DESCRIPTION = Path(__file__).with_name("media2.wsdl")
_AS_RTSP = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}


@dataclass(frozen=True, slots=True)
class Profile:
    """A stream of a camera, with the size and rate in its settings, if it states them."""

    name: str
    encoding: str
    width: int | None
    height: int | None
    fps: float | None
    source: str  # without user name and password, but with its query: many cameras choose the stream there


@dataclass(frozen=True, slots=True)
class NetworkCamera:
    """`trouble` says why there are no profiles, and what to do."""

    name: str
    address: str
    port: int
    profiles: tuple[Profile, ...] = ()
    trouble: str | None = None


def check_installed() -> None:
    """Raises AgentError without the extra."""
    try:
        _camera_class()
    except ImportError:
        sudo = "" if os.access(sys.prefix, os.W_OK) else "sudo "
        raise AgentError(
            "Finding cameras in the network needs the extra discovery, which is not installed. Install it: "
            f"{sudo}{command_that_adds('discovery')}"
        ) from None


def streams_of(cameras: Iterable[Announced], login: Login | None) -> list[NetworkCamera]:
    """Asks all cameras at the same time, in the same order. Blocks."""

    async def ask_all() -> list[NetworkCamera]:
        return await asyncio.gather(*(_describe(camera, login) for camera in cameras))

    return asyncio.run(ask_all())


async def _describe(found: Announced, login: Login | None) -> NetworkCamera:
    camera = NetworkCamera(found.name, found.address, found.port)
    try:
        profiles = await asyncio.wait_for(_profiles(found, login), _TIMEOUT_S)
    except Exception as error:  # noqa: BLE001  (each answer of a foreign camera may break another part of the library)
        return replace(camera, trouble=_why(error, login))
    if not profiles:
        return replace(camera, trouble="It has no profile. Make one on its web page.")
    return replace(camera, profiles=tuple(profiles))


async def _profiles(found: Announced, login: Login | None) -> list[Profile]:
    user, password = login or ("", "")
    host = f"https://{found.address}" if found.scheme == "https" else found.address
    # The clock of a camera is often wrong, and its answer to a login depends on the time: adjust_time.
    camera = _camera_class()(host, found.port, user, password, no_cache=True, adjust_time=True)
    try:
        await camera.update_xaddrs()
        # A camera may name another host, which must not get the login.
        camera.xaddrs = {service: _at(found.address, url) for service, url in camera.xaddrs.items()}
        if _MEDIA2 in camera.xaddrs:
            try:
                return await _profiles_of_media2(camera, login)
            except Exception:
                if _MEDIA not in camera.xaddrs:
                    raise
        media = await camera.create_media_service()
        listed = await _call(media, "GetProfiles", login)
        return [await _profile(media, each, login) for each in (listed or [])[:_MAX_PROFILES]]
    finally:
        await camera.close()


async def _profile(media: Any, profile: Any, login: Login | None) -> Profile:
    answer = await _call(media, "GetStreamUri", login, {"StreamSetup": _AS_RTSP, "ProfileToken": profile.token})
    video = getattr(profile, "VideoEncoderConfiguration", None)
    size = getattr(video, "Resolution", None)
    rate = getattr(video, "RateControl", None)
    return Profile(
        name=str(profile.Name or profile.token),
        encoding=str(getattr(video, "Encoding", None) or ""),
        width=getattr(size, "Width", None),
        height=getattr(size, "Height", None),
        fps=getattr(rate, "FrameRateLimit", None),
        source=_source(answer.Uri),
    )


async def _profiles_of_media2(camera: Any, login: Login | None) -> list[Profile]:
    """Newer cameras answer only this service, and list H.265 streams only there. The library cannot describe it."""
    from onvif.client import ONVIFService  # noqa: PLC0415  (optional, and it takes a second)

    media = ONVIFService(
        camera.xaddrs[_MEDIA2],
        camera.user,
        camera.passwd,
        str(_DESCRIPTION),
        no_cache=True,
        dt_diff=camera.dt_diff,
        binding_name=f"{{{_MEDIA2}}}Media2Binding",
    )
    camera.services["media2", None] = media  # the camera closes it
    await media.setup()
    listed = await _call(media, "GetProfiles", login, {"Type": ["VideoEncoder"]})
    return [await _profile_of_media2(media, each, login) for each in (listed or [])[:_MAX_PROFILES]]


async def _profile_of_media2(media: Any, profile: Any, login: Login | None) -> Profile:
    uri = await _call(media, "GetStreamUri", login, {"Protocol": "RTSP", "ProfileToken": profile.token})
    parts = getattr(profile.Configurations, "_value_1", None) or ()
    encoder = next((part for part in parts if part.tag.endswith("}VideoEncoder")), None)
    found = {} if encoder is None else {each.tag.rpartition("}")[2]: each.text for each in encoder.iter("{*}*")}
    width, height, fps = found.get("Width"), found.get("Height"), found.get("FrameRateLimit")
    return Profile(
        name=str(profile.Name or profile.token),
        encoding=str(found.get("Encoding") or ""),
        width=int(width) if width else None,
        height=int(height) if height else None,
        fps=float(fps) if fps else None,
        source=_source(uri),
    )


def _source(uri: object) -> str:
    return redact_named(Address.parse(str(uri)).url) if uri else ""


async def _call(service: Any, operation: str, login: Login | None, values: dict[str, Any] | None = None) -> Any:
    return await getattr(service, operation if login else f"authless_{operation}")(values)


def _at(address: str, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{address}:{parts.port}" if parts.port else address).geturl()


def _camera_class() -> Any:
    """Raises ImportError without the extra."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    from onvif import ONVIFCamera  # noqa: PLC0415  (optional, and it takes a second)

    root.handlers[:] = handlers  # its import sets up logging
    for name in ("onvif", "zeep", "aiohttp"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ONVIFCamera


def _why(error: Exception, login: Login | None) -> str:
    text = f"{error} {getattr(error, 'subcodes', '')}"
    if "NotAuthorized" in text or "not authorized" in text.lower() or "401" in text or "Unauthorized" in text:
        if login is None:
            return "It asks for a login. Add --username and --password-file."
        return "It refused the user name or the password. On its web page, check the ONVIF user and the camera's clock."
    if isinstance(error, asyncio.TimeoutError):
        return f"It did not answer within {_TIMEOUT_S:.0f} s. Try again, or look up its URL on its web page."
    return f"It cannot be asked ({type(error).__name__}: {error}). Look up its URL on its web page."
