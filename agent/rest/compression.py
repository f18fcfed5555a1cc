"""Compression: expands the body of a request up to a limit: 1 MB can expand to 1 GB."""

from __future__ import annotations

import zlib

from starlette.exceptions import HTTPException

_GZIP, _ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
# deflate is a zlib stream (RFC 9110, 8.4.1.2)
_WINDOWS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_NONE = ("", "identity")
_PIECE = 256 << 10


def expand(body: bytes | bytearray, encoding: str, *, max_bytes: int) -> bytes | bytearray:
    """`encoding` is the header Content-Encoding. Raises HTTPException 400, 413 or 415."""
    encoding = encoding.strip().lower()
    if encoding in _NONE:
        return body
    if encoding not in _WINDOWS:
        raise HTTPException(415, f"The Content-Encoding {encoding[:40]} is not supported. Use gzip, deflate or none.")
    stream = zlib.decompressobj(_WINDOWS[encoding])
    expanded, piece = bytearray(), body
    try:
        while piece and len(expanded) <= max_bytes:
            expanded += stream.decompress(piece, _PIECE)  # at once, it would need twice the memory
            piece = stream.unconsumed_tail
    except zlib.error as error:
        raise HTTPException(
            400, f"The body is not {encoding}: {error}. Compress it again, or send it as it is."
        ) from None
    if len(expanded) > max_bytes:
        raise HTTPException(413, f"The body expands to more than {max_bytes} bytes. Raise http.max_upload_bytes.")
    if not stream.eof or stream.unused_data:
        raise HTTPException(400, f"The body is not one whole {encoding} stream. Compress it again.")
    return expanded
