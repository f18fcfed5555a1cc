from __future__ import annotations

import gzip
import zlib

import pytest
from starlette.exceptions import HTTPException

from agent.rest.compression import expand

TEXT = b'{"inputs": []}' * 10


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        (" GZIP", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
    ],
)
def test_body_is_expanded_up_to_the_limit(encoding: str, body: bytes) -> None:
    assert expand(body, encoding, max_bytes=len(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body", "code", "sentence"),
    [
        ("br", TEXT, 415, "The Content-Encoding br is not supported"),
        ("gzip, gzip", gzip.compress(TEXT, mtime=0), 415, "The Content-Encoding gzip, gzip is not supported"),
        ("gzip", TEXT, 400, "The body is not gzip"),
        ("gzip", zlib.compress(TEXT), 400, "The body is not gzip"),
        ("deflate", gzip.compress(TEXT, mtime=0), 400, "The body is not deflate"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-1], 400, "not one whole gzip stream"),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"more", 400, "not one whole gzip stream"),
        ("gzip", gzip.compress(bytes(1 << 20)), 413, "expands to more than 140 bytes"),
    ],
)
def test_body_that_is_malformed_or_too_large_is_refused(encoding: str, body: bytes, code: int, sentence: str) -> None:
    with pytest.raises(HTTPException, match=sentence) as raised:
        expand(body, encoding, max_bytes=len(TEXT))
    assert raised.value.status_code == code
