"""Kind: what an http:// URL leads to, judged once by the type and the first bytes of the answer."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urljoin

import cv2

from agent.errors import SourceError
from agent.image import JPEG_START, has_image_signature
from agent.sources.http_get import BROKEN
from agent.sources.pictures import FIRST, HEAD_BYTES, Pictures
from agent.sources.stream import open_with_ffmpeg

if TYPE_CHECKING:
    from agent.sources.http_get import Body, HttpClient

Kind = Literal["still", "mjpeg", "live", "recording"]
_STREAM_TYPES = ("multipart/", "video/x-motion-jpeg", "video/x-jpeg", "video/mjpeg", "video/x-mjpeg")


@dataclass(frozen=True, slots=True)
class Answer:
    """The kind and, if it is "mjpeg", the open connection, to be read on."""

    kind: Kind
    pictures: Pictures | None = None
    silence_s: float = 0.0  # how long a live source may be silent between two of its segments

    def close(self) -> None:
        if self.pictures is not None:
            self.pictures.close()


def ask(client: HttpClient) -> Answer:
    """Sends a request. Blocks; raises SourceError if the server does not answer, or sends no pictures."""
    body = client.get()
    keeps_open = False
    try:
        answer = _identify(body, client)
        keeps_open = answer.pictures is not None
    except BROKEN as error:
        raise SourceError(client.explain(error)) from None
    finally:
        if not keeps_open:
            body.close()
    return answer


def _identify(body: Body, client: HttpClient) -> Answer:
    is_stream = body.content_type.startswith(_STREAM_TYPES)
    head = body.head(HEAD_BYTES, FIRST * body.timeout_s if is_stream else None).lstrip()
    if not head:
        raise SourceError(f"{client.address} sent an empty answer instead of a picture. Check the camera and its URL.")
    if head.startswith(b"#EXTM3U"):
        playlist = _media_playlist(body, client)
        if b"#EXT-X-ENDLIST" in playlist:
            return Answer("recording")
        longest = re.search(rb"#EXT-X-TARGETDURATION:\s*(\d{1,4})", playlist)
        return Answer("live", silence_s=3.0 * int(longest[1]) if longest else 0.0)
    has_jpeg = JPEG_START in head and not _is_container(head)
    if has_jpeg or has_image_signature(head) or is_stream or body.content_type.startswith("image/"):
        pictures = Pictures(body)
        if pictures.is_still():
            return Answer("still")
        is_file = body.has_length and not body.content_type.startswith("multipart/")
        return Answer("recording") if is_file else Answer("mjpeg", pictures)
    if head[:1] in b"<{[" or body.content_type.startswith(("text/", "application/json")):
        raise SourceError(
            f"{client.address} is a web page or text, not a picture or a video. Use the URL of the camera's stream or "
            "snapshot; its manual or the ONVIF Device Manager shows it."
        )
    return Answer("recording" if body.has_length or _has_known_length(client) else "live")


def _is_container(head: bytes) -> bool:
    """Whether it begins like an AVI, Matroska, FLV, Ogg or MP4, whose first frame may be a JPEG."""
    return head.startswith((b"RIFF", b"\x1a\x45\xdf\xa3", b"FLV", b"OggS")) or head[4:8] in (b"ftyp", b"moov", b"mdat")


def _media_playlist(body: Body, client: HttpClient) -> bytes:
    """The HLS playlist (RFC 8216) of `body` or, if that lists several qualities, of the first one."""
    text = body.read_all()
    if b"#EXT-X-STREAM-INF" not in text:
        return text
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith(b"#")), b"")
    with closing(client.get(urljoin(body.url, first.decode("utf-8", "replace")))) as media:
        return media.read_all()


def _has_known_length(client: HttpClient) -> bool:
    """Whether the video itself states its length, although the server states none for the response."""
    capture = open_with_ffmpeg(client.address, timeout_s=client.timeout_s)
    try:
        return bool(capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0)
    finally:
        capture.release()
