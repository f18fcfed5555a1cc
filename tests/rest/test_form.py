"""The shortcut for a form with one file gives what the parser gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies
from starlette.exceptions import HTTPException

from agent.rest import form
from agent.rest.form import files_of

TYPE = "multipart/form-data; boundary=XaX"
HEAD = b'--XaX\r\nContent-Disposition: form-data; name="file"'
END = b"\r\n--XaX--"
PLAIN = {
    "curl": HEAD + b'; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8abc' + END + b"\r\n",
    "no line break after the end": HEAD + b'; filename="a.jpg"\r\n\r\n\xff\xd8abc' + END,
    "no file name": HEAD + b"\r\n\r\n\xff\xd8abc" + END + b"\r\n",
    "lower case": HEAD.lower().replace(b"xax", b"XaX") + b"\r\ncontent-type: image/jpeg\r\n\r\n\xff\xd8abc" + END,
}
UNUSUAL = {
    "preamble": b"ignored\r\n" + PLAIN["curl"],
    "epilogue": PLAIN["curl"] + b"ignored",
    "two files": PLAIN["no file name"][: -len(END) - 2] + b"\r\n" + PLAIN["curl"],
    "field after the file": PLAIN["curl"][:-4]
    + b'\r\nContent-Disposition: form-data; name="other"\r\n\r\nx'
    + END
    + b"\r\n",
    "another name": PLAIN["curl"].replace(b'"file"', b'"files"'),
    "encoding": PLAIN["curl"].replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1),
    "escaped name": PLAIN["curl"].replace(b'"file"', rb'"fi\"le"'),
    "space after the boundary": PLAIN["curl"].replace(b"--XaX\r\n", b"--XaX \r\n", 1),
    "empty file": HEAD + b"\r\n\r\n" + END,
    "no content at all": HEAD + b"\r\n" + END,
    "line break in the content": HEAD + b"\r\n\r\nab\r\n\r\n--Xa" + END,
    "no end": PLAIN["curl"][: -len(END) - 2],
    "no dashes at the end": PLAIN["curl"][:-4],
    "empty": b"",
    "only the end": b"--XaX--\r\n",
    "headers without end": HEAD + b"\r\n" + b"a: b\r\n" * 1000 + END,
}


def outcome(body: bytes, content_type: str = TYPE) -> list[bytes] | str:
    try:
        return [bytes(file) for file in files_of(bytearray(body), content_type, "file")]
    except HTTPException as error:
        return f"{error.status_code} {error.detail}"


def parsed(body: bytes) -> list[bytes] | str:
    """Without the shortcut, which does not know a boundary in quotation marks."""
    return outcome(body, 'multipart/form-data; boundary="XaX"')


@pytest.mark.parametrize("body", PLAIN.values(), ids=PLAIN)
def test_only_file_is_cut_out_of_the_body_without_a_copy(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed(body) == [b"\xff\xd8abc"]
    monkeypatch.setattr(form, "_parse", None)
    memory = bytearray(body)
    (file,) = files_of(memory, TYPE, "file")
    assert file is memory
    assert file == b"\xff\xd8abc"


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_form_is_read_as_the_parser_reads_it(body: bytes) -> None:
    assert outcome(body) == parsed(body)


@given(
    strategies.lists(
        strategies.sampled_from([HEAD, b"\r\n\r\n", END, b"\r\n--XaX", b"\r\n", b"--", b"XaX", b"a", b"\xff", b'"'])
    )
)
@settings(derandomize=True, max_examples=300, deadline=None, database=None)
def test_every_form_is_read_as_the_parser_reads_it(pieces: list[bytes]) -> None:
    body = HEAD + b"\r\n\r\n" + b"".join(pieces) + END
    assert outcome(body) == parsed(body)
