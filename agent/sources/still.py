"""Still: a camera that sends one picture per HTTP request."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from agent.errors import ImageError, SourceError
from agent.image import decode
from agent.sources.http_get import BROKEN
from agent.sources.pictures import Pictures
from agent.sources.recording import Shot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.image import Image
    from agent.sources.http_get import HttpClient

_AGAIN_S = 0.5


class Still:
    """Footage without an end: each shot is a request, made when it is read, and made again if it fails once."""

    has_own_pace = False

    def __init__(self, client: HttpClient) -> None:
        self.name = str(client.address)
        self._client = client

    def open(self) -> Iterator[Shot]:
        yield Shot(self._fetch(), 0.0)
        while True:
            try:
                image = self._fetch()
            except SourceError:  # some cameras are busy now and then
                time.sleep(_AGAIN_S)
                image = self._fetch()
            yield Shot(image, 0.0)

    def _fetch(self) -> Image:
        with closing(self._client.get()) as body:
            try:
                picture = Pictures(body).read()
            except BROKEN as error:
                raise SourceError(self._client.explain(error)) from None
        if picture is None:
            raise SourceError(f"{self.name} sent an empty answer instead of a picture. Check the camera and its URL.")
        try:
            return decode(picture)
        except ImageError as error:
            raise SourceError(f"{self.name} sent a picture that cannot be used. {error}") from None
