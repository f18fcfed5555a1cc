"""Upload: reads an HTTP body of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from agent.inference.share import Share
from agent.rest.body import BODY
from agent.rest.compression import expand
from agent.rest.form import files_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope

    from agent.rest.body import Body

_FORM = "multipart/form-data"
_FORM_OVERHEAD_BYTES = 64 << 10
_FIRST_BYTES = 64 << 10


class UploadReader:
    """Reads bodies of at most `max_bytes`, and `max_bytes_together` at any time, of which each address has a share.

    `max_bytes_together` bounds memory: slow clients could open any number of uploads. Raises HTTPException 400,
    413 or 415, and BusyError.
    """

    def __init__(self, *, max_bytes: int, max_bytes_together: int, per_client: int) -> None:
        self.max_bytes = max_bytes
        self._max_together = max_bytes_together
        self._arrived = Share(
            max_bytes_together,
            guaranteed=per_client * max_bytes,
            busy="Too many uploads are arriving at the same time. Retry later.",
        )

    async def read_image(self, request: Request) -> bytearray:
        """The raw body, or the form field `file`."""
        refuse_compressed(request)
        if not _is_form(request):
            return await self._read_body(request, max_bytes=self.max_bytes, slack=0)
        files = await self._read_form(request, field_name="file", max_bytes=self.max_bytes)
        if len(files) != 1:
            raise HTTPException(
                400, f"The form has {len(files)} fields named `file` instead of one. Send: curl -F file=@photo.jpg"
            )
        if len(files[0]) > self.max_bytes:
            raise HTTPException(413, too_large(self.max_bytes))
        return files[0]

    async def read_images(self, request: Request) -> list[bytearray]:
        """Every form field `files`; a single file may be larger than `max_bytes`."""
        refuse_compressed(request)
        if not _is_form(request):
            raise HTTPException(400, "The body is not a form. Send: curl -F files=@one.jpg -F files=@two.jpg")
        return await self._read_form(request, field_name="files", max_bytes=self._max_together)

    async def read_message(self, request: Request) -> bytes | bytearray:
        """The body of a protocol whose clients may compress it with gzip or deflate."""
        body = await self._read_body(request, max_bytes=self.max_bytes, slack=0)
        return expand(body, request.headers.get("content-encoding", ""), max_bytes=self.max_bytes)

    async def _read_form(self, request: Request, *, field_name: str, max_bytes: int) -> list[bytearray]:
        body = await self._read_body(request, max_bytes=max_bytes, slack=_FORM_OVERHEAD_BYTES)
        return files_of(body, request.headers["content-type"], field_name)

    async def _read_body(self, request: Request, *, max_bytes: int, slack: int) -> bytearray:
        """Refuses by Content-Length before reading, or while reading if that header is missing or wrong."""
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and (len(stated) > 15 or int(stated) > max_bytes + slack):
            raise HTTPException(413, too_large(max_bytes))
        address, body = client_address(request.scope), request.scope.get(BODY)
        if body is not None:
            return await self._read_known(body, address)
        chunks, arrived = [], 0
        try:
            async for chunk in request.stream():
                if arrived + len(chunk) > max_bytes + slack:
                    raise HTTPException(413, too_large(max_bytes))
                self._arrived.take(address, len(chunk))
                arrived += len(chunk)
                chunks.append(chunk)
            return bytearray().join(chunks)
        finally:
            self._arrived.give_back(address, arrived)

    async def _read_known(self, body: Body, address: str) -> bytearray:
        """Reserves at most eight times of what has arrived: a slow client must not hold memory for what it states."""
        memory, reserved = bytearray(), 0
        try:
            while reserved < body.length:
                more = min(body.length, max(_FIRST_BYTES, 8 * reserved)) - reserved
                self._arrived.take(address, more)
                reserved += more
                memory = memory.ljust(reserved)
                await body.read_into(memory, reserved - more)
            return memory
        finally:
            self._arrived.give_back(address, reserved)


def client_address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def too_large(max_bytes: int) -> str:
    return f"The body has more than {max_bytes} bytes. Send a smaller image or raise http.max_upload_bytes."


def refuse_compressed(request: Request) -> None:
    """A body of 1 MB can expand to 1 GB; images are compressed already."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise HTTPException(415, f"The Content-Encoding {encoding[:40]} is not supported. Send the body uncompressed.")


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith(_FORM)
