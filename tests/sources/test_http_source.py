"""Sources behind an http:// URL, read from a real server."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from peers.certificates import Authority
from peers.http_camera import chunked, fixed, folder, http_camera, streaming
from sources.footage import brightness
from sources.observing import PATIENCE_S, Seen, soon, until

from agent.sources.address import Address
from agent.sources.http_source import HttpSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from peers.http_camera import Viewer

    from agent.frame import Frame

pytestmark = pytest.mark.anyio

MULTIPART = "multipart/x-mixed-replace; boundary=frame"


def encoded(level: int, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, np.full((48, 64, 3), level, np.uint8))[1].tobytes()


def part(before: str, *, after: str = "\r\n", cut: int = 0) -> Callable[[int], bytes]:
    """Part n has the brightness n, up to 200; `before` may have the place {length}."""

    def make(number: int) -> bytes:
        jpeg = encoded(number % 200)
        jpeg = jpeg[: len(jpeg) - cut]
        return before.format(length=len(jpeg)).encode() + jpeg + after.encode()

    return make


@asynccontextmanager
async def opened(url: str, seen: Seen, *, loop: bool = False, timeout_s: float = 4.0) -> AsyncIterator[HttpSource]:
    source = HttpSource(Address.parse(url), loop=loop, on_status=seen, timeout_s=timeout_s, backoff=soon())
    try:
        yield source
    finally:
        source.close()
        assert await source.read() is None
        await asyncio.wait_for(source.wait_closed(), PATIENCE_S)


async def frame_of(answer: Callable[[Viewer], None], *, count: int = 1) -> list[Frame]:
    seen = Seen()
    with http_camera({"/cam": answer}) as camera:
        async with opened(camera.url("/cam"), seen) as source:
            frames = [await asyncio.wait_for(source.read(), PATIENCE_S) for _ in range(count)]
            assert [status.state for status in seen.statuses] == ["online"]
    return [frame for frame in frames if frame is not None]


@pytest.mark.parametrize(
    "answer",
    [
        fixed(encoded(80), "image/jpeg"),
        fixed(encoded(80), "image/jpeg", has_length=False),
        fixed(encoded(80), "image/jpg"),
        fixed(encoded(80), None),
        fixed(encoded(80), "application/octet-stream", has_length=False),
        fixed(encoded(80)[:-2], "image/jpeg"),
        fixed(encoded(80) + encoded(90), "image/jpeg"),
        fixed(encoded(80, ".png"), "image/png"),
        fixed(encoded(80, ".bmp"), None, has_length=False),
        chunked(encoded(80), "image/jpeg"),
        chunked(encoded(80, ".webp"), "image/webp"),
        fixed(part("--frame\r\nContent-Type: image/jpeg\r\n\r\n", after="\r\n--frame--\r\n")(80), MULTIPART),
    ],
)
async def test_still_is_requested_once_for_each_frame(answer: Callable[[Viewer], None]) -> None:
    seen = Seen()
    with http_camera({"/cam": answer}) as camera:
        async with opened(camera.url("/cam"), seen) as source:
            assert [brightness(await source.read()) for _ in range(5)] == pytest.approx([80] * 5, abs=2)
            assert not source.has_own_pace
            assert camera.count("/cam") == 6  # the first one tells what it is
            assert [status.state for status in seen.statuses] == ["online"]


@pytest.mark.parametrize(
    ("before", "after", "content_type"),
    [
        ("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n", "\r\n", MULTIPART),
        ("--frame\r\nContent-Type: image/jpg\r\n\r\n", "\r\n", MULTIPART),
        ("--frame\r\nContent-Type: image/pjpeg\r\n\r\n", "\r\n", MULTIPART),
        ("--frame\r\nContent-Type: application/octet-stream\r\n\r\n", "\r\n", MULTIPART),
        ("--frame\r\n\r\n", "\r\n", MULTIPART),
        ("--frame\n\n", "\n", MULTIPART),
        ("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 7\r\n\r\n", "\r\n", MULTIPART),
        ("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 9999999\r\n\r\n", "\r\n", MULTIPART),
        ("--other\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n", MULTIPART),
        ("--frame\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n", "multipart/x-mixed-replace"),
        ("--frame\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n", 'multipart/x-mixed-replace; boundary="--frame"'),
        ("--frame\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n", None),
        ("", "", "image/jpeg"),
        ("", "", "video/x-motion-jpeg"),
        ("Content-Type: image/jpeg\r\n\r\n", "", "text/plain"),
    ],
)
@pytest.mark.parametrize("cut", [0, 2])
async def test_mjpeg_is_read_whatever_its_parts_are_called(
    before: str, after: str, content_type: str | None, cut: int
) -> None:
    frames = await frame_of(streaming(part(before, after=after, cut=cut), content_type), count=3)
    levels = [brightness(frame) for frame in frames]
    assert levels == sorted(levels)
    assert frames[0].image().pixels.shape == (48, 64, 3)
    assert frames[0].image().color == "bgr"


async def test_mjpeg_uses_one_connection_and_gives_the_newest_frame() -> None:
    with http_camera({"/cam": streaming(part("--frame\r\n\r\n"), MULTIPART)}) as camera:
        async with opened(camera.url("/cam"), Seen()) as source:
            first = brightness(await source.read())
            await asyncio.sleep(0.5)
            assert brightness(await source.read()) > first + 10
            assert camera.count("/cam") == 1


def slowly(content_type: str, *, chunks: bool) -> Callable[[Viewer], None]:
    """A frame every 0.9 s, the first one included; each chunk also has the start of the next part."""

    def answer(viewer: Viewer) -> None:
        viewer.protocol_version = "HTTP/1.1"
        viewer.begin(content_type, **({"Transfer-Encoding": "chunked", "Connection": "close"} if chunks else {}))
        text = b"--frame\r\n\r\n"
        for number in range(1 << 30):
            viewer.wfile.write(b"%x\r\n%s\r\n" % (len(text), text) if chunks else text)
            if viewer.camera.stopping.wait(0.9):
                break
            text = encoded(20 * number) + b"\r\n--frame\r\n\r\n"

    return answer


@pytest.mark.parametrize("form", ["plain", "in chunks", "over TLS"])
async def test_stream_slower_than_the_timeout_stays_online_and_gives_each_frame_at_once(
    form: str, tmp_path: Path
) -> None:
    tls = Authority(tmp_path).sign("camera").server() if form == "over TLS" else None
    seen = Seen()
    with http_camera({"/cam": slowly(MULTIPART, chunks=form == "in chunks")}, tls=tls) as camera:
        async with opened(camera.url("/cam"), seen, timeout_s=0.4) as source:
            levels = [brightness(await source.read()) for _ in range(3)]
            assert np.diff(levels) == pytest.approx([20, 20], abs=2)
            await seen.until("online")
    assert camera.count("/cam") == 1


async def test_live_stream_that_closes_is_lost_and_opened_again() -> None:
    seen = Seen()
    with http_camera({"/cam": streaming(part("--frame\r\n\r\n"), MULTIPART, parts=5)}) as camera:
        async with opened(camera.url("/cam"), seen) as source:
            assert await source.read() is not None
            assert "stopped sending frames" in str((await seen.until("online", "lost")).reason)
            assert await source.read() is not None
            assert [status.state for status in seen.statuses[:3]] == ["online", "lost", "online"]


def write_film(path: Path, codec: str) -> bytes:
    """25 frames, 1 second; frame n has the brightness 8 * n."""
    video = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    assert video.isOpened()
    for n in range(25):
        video.write(np.full((48, 64, 3), n * 8, np.uint8))
    video.release()
    return path.read_bytes()


PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\nfilm.ts\n"


def small_film() -> bytes:
    """The same as an AVI without index and padding, as small cameras write it: the first JPEG follows at once."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    avih = struct.pack("<14I", 40_000, 0, 0, 0, 25, 0, 1, 0, 64, 48, 0, 0, 0, 0)
    strh = b"vidsMJPG" + struct.pack("<10I", 0, 0, 0, 1, 25, 0, 25, 0, 0, 0) + struct.pack("<4H", 0, 0, 64, 48)
    strf = struct.pack("<IiiHH4sIiiII", 40, 64, 48, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    strl = chunk(b"LIST", b"strl" + chunk(b"strh", strh) + chunk(b"strf", strf))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", avih) + strl)
    frames = b"".join(chunk(b"00dc", encoded(n * 8)) for n in range(25))
    content = chunk(b"RIFF", b"AVI " + header + chunk(b"LIST", b"movi" + frames))
    assert b"\xff\xd8\xff" in content[:512]
    return content


@pytest.fixture
def films(tmp_path: Path) -> Path:
    write_film(tmp_path / "film.mp4", "mp4v")
    write_film(tmp_path / "film.ts", "MPG2")
    write_film(tmp_path / "film.avi", "MJPG")
    (tmp_path / "small.avi").write_bytes(small_film())
    (tmp_path / "film.mjpeg").write_bytes(b"".join(encoded(n * 8) for n in range(25)))
    (tmp_path / "film.m3u8").write_text(f"{PLAYLIST}#EXT-X-ENDLIST\n")
    (tmp_path / "live.m3u8").write_text(PLAYLIST)
    (tmp_path / "master.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nfilm.m3u8\n")
    return tmp_path


@pytest.mark.parametrize(
    "path",
    ["/film.mp4", "/film.ts", "/film.avi", "/small.avi", "/film.mjpeg", "/film.m3u8", "/master.m3u8", "/chunks.mp4"],
)
async def test_recording_is_played_at_its_own_pace_and_ends(films: Path, path: str) -> None:
    seen = Seen()
    chunks = chunked((films / "film.mp4").read_bytes(), "video/mp4")
    with http_camera({**folder(films), "/chunks.mp4": chunks}) as camera:
        async with opened(camera.url(path), seen) as source:
            levels, times_s = [], []
            while (frame := await asyncio.wait_for(source.read(), PATIENCE_S)) is not None:
                levels.append(brightness(frame))
                times_s.append(time.monotonic())
            assert source.has_own_pace
            assert levels == pytest.approx([n * 8 for n in range(25)], abs=8)
            assert 0.9 < times_s[-1] - times_s[0] < 5
            requests = len(camera.requests)
            assert await source.read() is None
            assert [status.state for status in seen.statuses] == ["online", "ended"]
            assert len(camera.requests) == requests <= 6


async def test_recording_starts_again_when_looped_but_not_more_than_once_per_second(tmp_path: Path) -> None:
    video = cv2.VideoWriter(str(tmp_path / "short.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 100, (64, 48))
    for _ in range(2):
        video.write(np.full((48, 64, 3), 50, np.uint8))
    video.release()
    seen = Seen()
    with http_camera(folder(tmp_path)) as camera:
        async with opened(camera.url("/short.avi"), seen, loop=True) as source:
            begun_s = time.monotonic()
            for _ in range(5):
                assert brightness(await source.read()) == pytest.approx(50, abs=2)
            assert time.monotonic() - begun_s > 1.8
            assert [status.state for status in seen.statuses] == ["online"]


async def test_recording_that_breaks_off_is_lost(films: Path) -> None:
    video = (films / "film.avi").read_bytes()

    def broken(viewer: Viewer) -> None:
        viewer.begin("video/avi", **{"Content-Length": str(len(video))})
        viewer.wfile.write(video[: len(video) // 2])

    seen = Seen()
    with http_camera({"/film.avi": broken}) as camera:
        async with opened(camera.url("/film.avi"), seen) as source:
            reading = asyncio.create_task(_read_to_the_end(source))
            await until(lambda: any(status.state == "lost" for status in seen.statuses))
            assert "stopped before its end" in str(seen.statuses[-1].reason)
            reading.cancel()


async def _read_to_the_end(source: HttpSource) -> None:
    while await source.read() is not None:
        pass


async def test_live_playlist_is_not_a_recording(films: Path) -> None:
    with http_camera(folder(films)) as camera:
        async with opened(camera.url("/live.m3u8"), Seen()) as source:
            assert await asyncio.wait_for(source.read(), PATIENCE_S) is not None
            assert not source.has_own_pace


async def test_live_video_that_closes_is_lost(films: Path) -> None:
    video, seen = (films / "film.ts").read_bytes(), Seen()
    live = streaming(lambda n: video[n * 1880 :][:1880], "video/mp2t", parts=len(video) // 1880)
    with http_camera({"/live.ts": live}) as camera:
        async with opened(camera.url("/live.ts"), seen) as source:
            assert await source.read() is not None
            await seen.until("online", "lost")
            assert not source.has_own_pace


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (fixed(b"<html>Welcome</html>", "text/html"), "is a web page or text, not a picture or a video."),
        (fixed(b'{"error": "x"}', "application/json"), "is a web page or text"),
        (fixed(b"", "image/jpeg"), "sent an empty answer"),
        (fixed(b"", MULTIPART), "sent an empty answer"),
        (fixed(b"--frame--", MULTIPART), "sends no picture that the agent can read"),
        (fixed(b"GIF89a" + bytes(90), "image/gif"), "sent a picture that cannot be used. The image format is not"),
        (fixed(encoded(9)[:300], "image/jpeg"), "sent a picture that cannot be used. The image is damaged"),
        (
            fixed(b"--frame\r\n\r\n" + encoded(9)[:-9], MULTIPART),
            "sent a picture that cannot be used. The image is dam",
        ),
        (fixed(b"no", "text/plain", code=500), "answers with status 500 instead of a picture."),
        (fixed(b"no", "text/plain", code=404), "does not exist (status 404). Check the path in its URL."),
        (fixed(b"no", "text/plain", code=403), "requires a login (status 403). Set username and password_file"),
        (lambda viewer: viewer.wfile.write(b"SSH-2.0\r\n"), "does not answer in HTTP."),
        (lambda viewer: None, "ended the connection"),
    ],
)
async def test_source_is_lost_with_what_to_do_when_it_gets_no_picture(
    answer: Callable[[Viewer], None], sentence: str
) -> None:
    seen = Seen()
    with http_camera({"/cam": answer}) as camera:
        async with opened(camera.url("/cam?pwd=sesame"), seen) as source:
            reading = asyncio.create_task(source.read())
            lost = await seen.until("lost")
            assert str(lost.reason).startswith(f"{camera.url('/cam')}?*** {sentence}")
            camera.answers["/cam"] = fixed(encoded(80), "image/jpeg")
            assert brightness(await asyncio.wait_for(reading, PATIENCE_S)) == pytest.approx(80, abs=2)


async def test_source_is_lost_when_its_server_is_silent_and_close_wakes_the_reader() -> None:
    def silent(viewer: Viewer) -> None:
        viewer.camera.stopping.wait(PATIENCE_S)

    seen = Seen()
    with http_camera({"/cam": silent}) as camera:
        async with opened(camera.url("/cam"), seen, timeout_s=0.2) as source:
            reading = asyncio.create_task(source.read())
            assert "sends nothing" in str((await seen.until("lost")).reason)
            source.close()
            assert await asyncio.wait_for(reading, PATIENCE_S) is None
        camera.stopping.set()


async def test_connection_is_closed_when_the_answer_comes_after_close() -> None:
    answering = threading.Event()

    def late(viewer: Viewer) -> None:
        answering.wait(PATIENCE_S)
        streaming(part("--frame\r\n\r\n"), MULTIPART)(viewer)

    with http_camera({"/cam": late}) as camera:
        async with opened(camera.url("/cam"), Seen()) as source:
            reading = asyncio.create_task(source.read())
            await until(lambda: camera.count("/cam") == 1)
            source.close()
            assert await asyncio.wait_for(reading, PATIENCE_S) is None
            answering.set()
        viewers = [thread for thread in threading.enumerate() if "process_request" in thread.name]
        await until(lambda: not any(thread.is_alive() for thread in viewers))  # before the server stops


async def test_source_is_readable_after_a_canceled_read() -> None:
    with http_camera({"/cam": streaming(part("--frame\r\n\r\n"), MULTIPART)}) as camera:
        async with opened(camera.url("/cam"), Seen()) as source:
            reading = asyncio.create_task(source.read())
            await asyncio.sleep(0)
            reading.cancel()
            assert await asyncio.wait_for(source.read(), PATIENCE_S) is not None


async def test_source_is_lost_until_its_server_starts() -> None:
    seen = Seen()
    with http_camera({}) as gone:
        url = gone.url("/cam")
    async with opened(url, seen) as source:
        reading = asyncio.create_task(source.read())
        assert "does not answer (Connection refused)" in str((await seen.until("lost")).reason)
        assert not reading.done()


async def test_still_that_fails_now_and_then_stays_online() -> None:
    def every_other_time(viewer: Viewer) -> None:
        busy = viewer.camera.count("/cam") in (3, 5)
        (fixed(b"busy", None, code=503) if busy else fixed(encoded(80), "image/jpeg"))(viewer)

    seen = Seen()
    with http_camera({"/cam": every_other_time}) as camera:
        async with opened(camera.url("/cam"), seen) as source:
            for _ in range(5):
                assert await source.read() is not None
            await seen.until("online")


async def test_stream_of_pictures_that_are_not_jpeg_is_lost() -> None:
    other = streaming(lambda _: b"--frame\r\nContent-Type: image/png\r\n\r\n" + encoded(9, ".png"), MULTIPART)
    seen = Seen()
    with http_camera({"/cam": other}) as camera:
        async with opened(camera.url("/cam"), seen, timeout_s=0.2) as source:
            reading = asyncio.create_task(source.read())
            assert "sends no JPEG. Check its URL." in str((await seen.until("lost")).reason)
            assert not reading.done()


async def test_still_is_online_again_after_a_failure() -> None:
    seen = Seen()
    with http_camera({"/cam": fixed(encoded(80), "image/jpeg")}) as camera:
        async with opened(camera.url("/cam"), seen) as source:
            assert await source.read() is not None
            camera.answers["/cam"] = fixed(b"busy", "text/plain", code=503)
            reading = asyncio.create_task(source.read())
            assert "status 503" in str((await seen.until("online", "lost")).reason)
            camera.answers["/cam"] = fixed(encoded(90), "image/jpeg")
            assert brightness(await asyncio.wait_for(reading, PATIENCE_S)) == pytest.approx(90, abs=2)


@pytest.mark.parametrize("code", [301, 302, 303, 307])
async def test_redirect_is_followed(code: int) -> None:
    answers = {"/old": fixed(b"", None, code=code, Location="/new"), "/new": fixed(encoded(80), "image/jpeg")}
    with http_camera(answers) as camera:
        async with opened(camera.url("/old"), Seen()) as source:
            assert await source.read() is not None


async def test_camera_with_a_certificate_of_its_own_is_read_over_tls(tmp_path: Path) -> None:
    tls = Authority(tmp_path).sign("camera").server()
    with http_camera({"/cam": streaming(part("--frame\r\n\r\n"), MULTIPART)}, tls=tls) as camera:
        assert camera.url("/cam").startswith("https://")
        async with opened(camera.url("/cam"), Seen()) as source:
            assert await source.read() is not None
