"""MJPEG: a live camera that sends one JPEG after the other over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import ImageError, SourceError
from agent.image import decode
from agent.sources.http_get import BROKEN
from agent.sources.pictures import Pictures
from agent.sources.reachability import why_unreachable

if TYPE_CHECKING:
    from agent.sources.http_get import HttpClient


class MjpegStream:
    """Lost if it sends nothing for the client's timeout. FFmpeg reads only parts that are typed image/jpeg."""

    def __init__(self, client: HttpClient, opened: Pictures) -> None:
        """`opened` is read first, since some cameras serve only one connection at a time."""
        self.name = str(client.address)
        self._client = client
        self._opened: Pictures | None = opened

    def open(self) -> Any:
        """Raises SourceError; blocks for up to twice the timeout plus the time of the DNS lookup."""
        opened, self._opened = self._opened, None
        try:
            return _MjpegCapture(opened or Pictures(self._client.get()))
        except BROKEN as error:
            raise SourceError(self._client.explain(error)) from None

    def explain(self, *, opened: bool) -> str:  # noqa: ARG002  (open() itself explains why it failed)
        return why_unreachable(self._client.address, timeout_s=self._client.timeout_s) or (
            f"{self.name} stopped sending frames. If this persists, restart the camera."
        )


class _MjpegCapture:
    """Behaves like OpenCV's capture; decodes only the pictures that are retrieved."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._picture: bytes | None = None

    def grab(self) -> bool:
        try:
            self._picture = self._pictures.read()
        except BROKEN:
            return False
        return self._picture is not None

    def retrieve(self) -> tuple[bool, Any]:
        try:
            return True, decode(self._picture or b"").pixels
        except ImageError:
            return False, None

    def release(self) -> None:
        self._pictures.close()
