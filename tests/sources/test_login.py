"""Logins over HTTP, checked by a real server that computes the digest from the definition (RFC 7616)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from contextlib import closing
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from peers.http_camera import HttpCamera, Viewer, fixed, folder, http_camera
from sources.footage import brightness, write_video
from sources.observing import PATIENCE_S, Seen, soon

from agent.sources.address import Address, Login
from agent.sources.http_source import HttpSource
from agent.sources.login import authorization, strongest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.status import CameraStatus

PASSWORD = "p#/?[@%ä"
BASIC = 'Basic realm="cam"'
JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 80, np.uint8))[1].tobytes()


def digest(algorithm: str | None = None, qop: str | None = "auth", nonce: str = "abc") -> str:
    optional = {"algorithm": algorithm, "qop": f'"{qop}"' if qop else None}
    parts = [f"{name}={value}" for name, value in optional.items() if value]
    return ", ".join([f'Digest realm="IP Camera, \\"1\\"", nonce="{nonce}", opaque="o"', *parts])


def locked(
    answer: Callable[[Viewer], None], *challenges: str, username: str = "admin", password: str = PASSWORD
) -> Callable[[Viewer], None]:
    """Answers only with the right login; otherwise 401 with these headers."""

    def check(viewer: Viewer) -> None:
        given = viewer.headers.get("Authorization", "")
        if is_right(given, viewer.path, username, password):
            answer(viewer)
            return
        viewer.send_response(401)
        for challenge in challenges:
            viewer.send_header("WWW-Authenticate", challenge)
        viewer.end_headers()

    return check


def is_right(given: str, path: str, username: str, password: str) -> bool:
    if given.startswith("Basic "):
        return base64.b64decode(given[6:]).decode() == f"{username}:{password}"
    found = re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))', given)
    fields = {name: re.sub(r"\\(.)", r"\1", quoted) or plain for name, quoted, plain in found}
    if not fields or fields["uri"] != path or fields["username"] != username or fields["opaque"] != "o":
        return False
    algorithm = fields.get("algorithm", "MD5").upper()

    def hashed(*parts: str) -> str:
        name = "sha256" if algorithm.startswith("SHA-256") else "md5"
        return hashlib.new(name, ":".join(parts).encode()).hexdigest()

    key = hashed(username, 'IP Camera, "1"', password)
    if algorithm.endswith("-SESS"):
        key = hashed(key, fields["nonce"], fields["cnonce"])
    request = hashed("GET", path)
    if "qop" not in fields:
        return fields["response"] == hashed(key, fields["nonce"], request)
    return fields["response"] == hashed(key, fields["nonce"], fields["nc"], fields["cnonce"], "auth", request)


async def outcome(camera: HttpCamera, path: str, secret: Path, *, frames: int = 1) -> list[CameraStatus]:
    """What was reported after some frames, or up to the first failure."""
    statuses: list[CameraStatus] = []
    lost = asyncio.Event()

    def on_status(status: CameraStatus) -> None:
        statuses.append(status)
        if status.state == "lost":
            lost.set()

    address = Address.parse(camera.url(path), username="admin", password_file=secret)
    with closing(HttpSource(address, loop=False, on_status=on_status, backoff=soon())) as source:
        waiting = asyncio.ensure_future(lost.wait())
        for _ in range(frames):
            reading = asyncio.ensure_future(source.read())
            await asyncio.wait((reading, waiting), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                reading.cancel()
                break
            assert reading.done()
        waiting.cancel()
    await source.wait_closed()
    return statuses


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    return file


@pytest.fixture
def wrong_secret(secret: Path) -> Path:
    secret.write_text("wrong")
    return secret


@pytest.mark.anyio
@pytest.mark.parametrize(
    "challenges",
    [
        [BASIC],
        ["basic"],
        [digest()],
        [digest("MD5")],
        [digest("MD5", qop="auth,auth-int")],
        [digest(None, qop=None)],
        [digest("SHA-256")],
        [digest("MD5-sess")],
        [digest("SHA-512-256"), digest("MD5")],
        [digest("SHA-256"), digest("MD5"), BASIC],
        [BASIC, digest("MD5")],
        [f"{BASIC}, {digest('MD5')}"],
        ["Negotiate", "NTLM", digest("MD5")],
    ],
)
async def test_camera_gets_the_login_that_it_asks_for(secret: Path, challenges: list[str]) -> None:
    with http_camera({"/cam": locked(fixed(JPEG, "image/jpeg"), *challenges)}) as camera:
        statuses = await outcome(camera, "/cam?channel=1", secret, frames=3)
        assert [status.state for status in statuses] == ["online"]
        assert camera.count("/cam") == 5  # one more to learn the kind, and only the very first without a login
        if any("Digest" in challenge for challenge in challenges):
            given = [headers.get("Authorization", "") for _, headers, _ in camera.requests]
            assert not any(each.startswith("Basic") for each in given)


@pytest.mark.anyio
async def test_camera_may_ask_for_a_new_digest_at_each_picture(secret: Path) -> None:
    used: set[str] = set()

    def answer(viewer: Viewer) -> None:
        given = re.search(r'nonce="(n\d+)"', viewer.headers.get("Authorization", ""))
        fresh = given is not None and given[1] not in used
        used.add(given[1] if given else "")
        nonce = f"n{len(used)}"
        locked(fixed(JPEG, "image/jpeg"), digest("MD5", nonce=nonce), password=PASSWORD if fresh else "none")(viewer)

    with http_camera({"/cam": answer}) as camera:
        statuses = await outcome(camera, "/cam", secret, frames=3)
        assert [status.state for status in statuses] == ["online"]
        assert camera.count("/cam") == 8


@pytest.mark.anyio
@pytest.mark.parametrize("challenge", [BASIC, digest("MD5"), "NTLM"])
async def test_wrong_password_is_reported_with_what_to_do(wrong_secret: Path, challenge: str) -> None:
    with http_camera({"/cam": locked(fixed(JPEG, "image/jpeg"), challenge)}) as camera:
        statuses = await outcome(camera, "/cam", wrong_secret)
        assert "refused the user name or the password (status 401)" in str(statuses[0].reason)
        assert "percent-encoded" in str(statuses[0].reason)
        assert camera.count("/cam") <= 4


@pytest.mark.anyio
async def test_login_is_not_sent_to_another_host(secret: Path) -> None:
    with http_camera({"/pic": locked(fixed(JPEG, "image/jpeg"), BASIC)}) as other:
        location = f"http://localhost:{other.port}/pic"
        with http_camera({"/cam": fixed(b"", None, code=302, Location=location)}) as camera:
            statuses = await outcome(camera, "/cam", secret)
        assert statuses[0].state == "lost"
        assert other.requests
        assert not any("Authorization" in headers for _, headers, _ in other.requests)


@pytest.mark.anyio
async def test_recording_is_read_with_the_login(secret: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", frames=3)
    answers = {path: locked(answer, digest("MD5")) for path, answer in folder(tmp_path).items()}
    with http_camera(answers) as camera:
        statuses = await outcome(camera, "/v.avi", secret, frames=4)
    assert [status.state for status in statuses] == ["online", "ended"]


@pytest.mark.anyio
async def test_password_file_is_read_again_when_it_could_not_be_read(secret: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    seen = Seen()
    with http_camera({"/cam": locked(fixed(JPEG, "image/jpeg"), BASIC)}) as camera:
        address = Address.parse(camera.url("/cam"), username="admin", password_file=absent)
        with closing(HttpSource(address, loop=False, on_status=seen, backoff=soon())) as source:
            reading = asyncio.create_task(source.read())
            assert "absent cannot be read: No such file" in str((await seen.until("lost")).reason)
            await asyncio.to_thread(secret.rename, absent)
            assert brightness(await asyncio.wait_for(reading, PATIENCE_S)) == pytest.approx(80, abs=2)
        await source.wait_closed()


def test_digest_is_the_one_of_the_standard() -> None:
    """RFC 2069's form, as in RFC 2617 3.5 without qop; computed here by hand."""
    challenge = strongest(['Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'])
    assert challenge is not None
    answer = authorization(challenge, Login("Mufasa", "Circle Of Life"), path="/dir/index.html", count=1)
    assert 'response="670fd8c2df070c60b045671b8b24ff02"' in answer


@pytest.mark.parametrize(
    "headers", [[], [""], ["Negotiate"], ['Digest realm="x", algorithm=SHA-512-256'], ["x" * 9999]]
)
def test_unknown_scheme_is_not_answered(headers: list[str]) -> None:
    assert strongest(headers) is None
