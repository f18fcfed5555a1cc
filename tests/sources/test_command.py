from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
import psutil
import pytest
from sources.observing import PATIENCE_S, Seen, soon, until

from agent.errors import SourceError
from agent.sources.capture import Capture
from agent.sources.capture_options import CaptureOptions, Command
from agent.sources.command import CommandCamera
from agent.sources.csi import CsiCamera, csi_command
from agent.sources.last_words import LastWords
from agent.sources.source import is_csi, is_file_source, open_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import numpy.typing as npt

    from agent.sources.source import Source

pytestmark = pytest.mark.anyio

JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), (20, 100, 200), np.uint8))[1].tobytes()
# A shell starts in a tenth of the time of Python. Each frame is a file, so the script only copies it.
STREAM = 'while cat "$2/frame"; do sleep 0.01; done'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "frame").write_bytes(JPEG)
    return tmp_path


def shell(folder: Path, script: str, **keys: object) -> Command:
    """Runs the script, in which $2 is the folder, and $1 is for the test to find its processes."""
    return Command(("/bin/sh", "-c", script, "sh", f"mark={folder}", str(folder)), **keys)  # type: ignore[arg-type]


def processes(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if runs(process, f"mark={folder}")]


def program(folder: Path) -> psutil.Process | None:
    """The first process of its group; a child of a shell looks like the shell until it becomes another program."""
    return next((process for process in processes(folder) if leads(process)), None)


def leads(process: psutil.Process) -> bool:
    try:
        return os.getpgid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def runs(process: psutil.Process, mark: str) -> bool:
    try:
        return mark in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def capture_of(command: Command, seen: Seen, **keys: float) -> AsyncIterator[Capture]:
    settings = {"stall_s": 0.5, "opening_s": PATIENCE_S, **keys}
    camera = Capture(CommandCamera(command), on_status=seen, backoff=soon(), **settings)
    try:
        yield camera
    finally:
        camera.close()
        await camera.wait_closed()


async def why_lost(command: Command, **keys: float) -> str:
    seen = Seen()
    async with capture_of(command, seen, **keys):
        await until(lambda: any(status.state == "lost" for status in seen.statuses))
    return next(str(status.reason) for status in seen.statuses if status.state == "lost")


async def pixels(camera: Source) -> npt.NDArray[np.uint8]:
    frame = await asyncio.wait_for(camera.read(), PATIENCE_S)
    assert frame is not None
    assert 0 <= time.monotonic_ns() - frame.captured_ns < 1e9
    return frame.image().to_color("bgr").pixels


async def test_jpegs_stay_encoded_whatever_is_between_them(folder: Path) -> None:
    script = f'echo "GST_ARGUS: Creating output stream"; echo >&2 starting; {STREAM.replace("sleep", "echo x; sleep")}'
    seen = Seen()
    async with capture_of(shell(folder, script), seen) as camera:
        frames = [await camera.read() for _ in range(3)]
        assert [frame.picture for frame in frames if frame] == [JPEG] * 3
        await seen.until("online")


async def test_half_a_jpeg_does_not_damage_the_next(folder: Path) -> None:
    (folder / "half").write_bytes(JPEG[:200])
    async with capture_of(shell(folder, f'cat "$2/half"; {STREAM}'), Seen()) as camera:
        pictures = [frame.picture for frame in [await camera.read() for _ in range(3)] if frame]
    assert pictures[1:] == [JPEG] * 2


@pytest.mark.parametrize("color", [(30, 120, 220), (250, 10, 60)])
@pytest.mark.parametrize("written", ["bgr24", "i420"])
async def test_pixels_arrive_as_they_were_written(folder: Path, written: str, color: tuple[int, int, int]) -> None:
    scene = np.full((36, 64, 3), color, np.uint8)
    scene[:18, :32] = (0, 255, 0)  # the place shows whether rows and columns are right
    content = scene if written == "bgr24" else cv2.cvtColor(scene, cv2.COLOR_BGR2YUV_I420)
    (folder / "frame").write_bytes(content.tobytes())
    async with capture_of(shell(folder, STREAM, format=written, size=(64, 36)), Seen()) as camera:
        frame = await pixels(camera)
    assert frame.shape == (36, 64, 3)
    assert np.abs(frame.astype(int) - scene).max() <= (0 if written == "bgr24" else 4)


async def test_frame_stays_as_it_is_while_others_arrive(folder: Path) -> None:
    (folder / "frame").write_bytes(bytes(192))
    (folder / "other").write_bytes(bytes(range(192)))
    script = STREAM.replace("sleep", 'cat "$2/other"; sleep')
    async with capture_of(shell(folder, script, format="bgr24", size=(8, 8)), Seen()) as camera:
        kept = []
        for _ in range(6):
            frame = await pixels(camera)
            kept.append((frame, frame.copy()))
    assert all((frame == copy).all() for frame, copy in kept)


async def test_unwanted_frames_are_counted_while_messages_are_read(folder: Path) -> None:
    command = shell(folder, "yes 'a warning' >&2 & exec cat /dev/zero", format="bgr24", size=(640, 480))
    camera = CommandCamera(command)
    feed = camera.open()
    try:
        counted = 0
        while counted < 50:
            arrival = feed.read(5.0)
            assert arrival is not None
            assert arrival.frame is None
            counted += arrival.frames
        said = camera.explain(opened=True)
    finally:
        feed.close()
    assert said.startswith("sh stopped writing frames. Its last message: a warning. Run")


def test_only_the_end_of_what_a_program_says_is_kept() -> None:
    words = LastWords()
    words.add(b"x" * 5_000_000)
    words.add(b"\nthe end\n")
    assert str(words) == " Its last message: the end."
    assert len(words._text) < 10_000


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo first >&2; echo 'no camera' >&2; exit 3", "sh ended with exit code 3. Its last message: no camera. Run"),
        ("exit 0", "sh ended with exit code 0. Run the command in a terminal"),
        ("kill -SEGV $$", "sh was ended by SIGSEGV. Run"),
        ('head -c 100 "$2/frame"; exit 1', "sh ended with exit code 1. Run"),
        ("exec >&-; exec sleep 60", "sh closed its standard output. Run"),
        ("printf 'frame=1\\rrtsp://u:secret@cam/x refused\\r' >&2", "Its last message: rtsp://***@cam/x refused. Run"),
        ("printf '\\033[31mred\\377\\n\\n' >&2", "Its last message: [31mred"),
    ],
)
async def test_program_that_ends_is_lost_with_what_it_said(folder: Path, script: str, said: str) -> None:
    reason = await why_lost(shell(folder, script))
    assert said in reason
    assert reason.isprintable()
    await until(lambda: not processes(folder))


async def test_program_that_only_says_something_is_lost_with_that(folder: Path) -> None:
    camera = CommandCamera(shell(folder, "echo waiting >&2; exec sleep 60"))
    feed = camera.open()
    try:
        await until(lambda: feed.read(0.05) is None and "waiting" in camera.explain(opened=False))
    finally:
        feed.close()
    said = camera.explain(opened=False)
    assert said.startswith("sh runs, but has written no mjpeg frame. Its last message: waiting. Run the command")
    await until(lambda: not processes(folder))


async def test_garbage_without_a_frame_is_lost(folder: Path) -> None:
    reason = await why_lost(shell(folder, "while :; do echo text; sleep 0.01; done"), opening_s=0.3)
    assert reason.startswith("sh runs, but has written no mjpeg frame.")


async def test_jpeg_without_an_end_is_lost_instead_of_filling_the_memory(folder: Path) -> None:
    reason = await why_lost(shell(folder, 'head -c 200 "$2/frame"; exec cat /dev/zero'), opening_s=PATIENCE_S)
    assert reason.startswith("sh wrote a JPEG without an end.")


@pytest.mark.parametrize(
    ("script", "number"),
    [(STREAM, signal.SIGSTOP), (STREAM, signal.SIGKILL), (f"trap '' INT TERM; {STREAM}", signal.SIGSTOP)],
)
async def test_program_that_stops_or_dies_is_started_again(folder: Path, script: str, number: signal.Signals) -> None:
    seen = Seen()
    async with capture_of(shell(folder, script), seen) as camera:
        assert (await pixels(camera)).shape == (48, 64, 3)
        old = program(folder)
        assert old is not None
        old.send_signal(number)
        while "lost" not in [status.state for status in seen.statuses]:
            await camera.read()
        assert (await pixels(camera)).shape == (48, 64, 3)
        await seen.until("online", "lost", "online")
        reason = str(seen.statuses[1].reason)
        assert ("was ended by SIGKILL" if number == signal.SIGKILL else "sh stopped writing frames.") in reason
        new = program(folder)
        assert new is not None
        assert new.pid != old.pid
    await until(lambda: not processes(folder))


async def test_frame_that_was_cut_off_is_not_joined_to_that_of_the_next_process(folder: Path) -> None:
    (folder / "frame").write_bytes(bytes(range(192)))
    script = 'if mkdir "$2/first"; then head -c 100 "$2/frame"; exit; fi; ' + STREAM
    async with capture_of(shell(folder, script, format="bgr24", size=(8, 8)), Seen()) as camera:
        assert (await pixels(camera)).tobytes() == bytes(range(192))


async def test_flood_of_messages_does_not_stop_the_frames(folder: Path) -> None:
    script = f"yes 'a warning of the driver' >&2 & (while sleep 0.1; do :; done) & {STREAM}"
    async with capture_of(shell(folder, script), Seen()) as camera:
        for _ in range(10):
            assert (await pixels(camera)).shape == (48, 64, 3)
    await until(lambda: not processes(folder))  # also the loop in brackets, a process of its own


async def test_nothing_is_left_after_many_cycles(folder: Path) -> None:
    async def once() -> None:
        async with capture_of(shell(folder, STREAM), Seen()) as camera:
            assert await camera.read() is not None

    await once()
    before, others = psutil.Process().num_fds(), psutil.Process().children()  # of other tests in this process
    for _ in range(8):
        await once()
    assert psutil.Process().num_fds() == before
    await until(lambda: not processes(folder))
    assert set(psutil.Process().children()) <= set(others)


async def test_program_ends_when_the_agent_is_killed(folder: Path) -> None:
    agent = textwrap.dedent(f"""
        import time
        from agent.sources.capture_options import Command
        from agent.sources.command import CommandCamera
        feed = CommandCamera(Command({shell(folder, "while sleep 0.1; do :; done").run!r})).open()
        feed.read(60)
    """)
    killed = subprocess.Popen([sys.executable, "-c", agent])  # noqa: ASYNC220  (it only starts)
    try:
        await until(lambda: (found := program(folder)) is not None and found.name() == "sh")  # not our launcher
        started = program(folder)
        assert started is not None
    finally:
        killed.kill()
        killed.wait()
    await until(lambda: not runs(started, f"mark={folder}"))


async def test_program_gets_the_environment_without_the_secrets_of_the_agent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_MQTT__PASSWORD", "secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    monkeypatch.setenv("LIBCAMERA_LOG_LEVELS", "ERROR")
    async with capture_of(shell(folder, f'env >"$2/env"; {STREAM}'), Seen()) as camera:
        assert await camera.read() is not None
    names = {line.partition("=")[0] for line in (folder / "env").read_text().splitlines()}
    assert {"LIBCAMERA_LOG_LEVELS", "PATH"} <= names
    assert not {"EDGE_AGENT_MQTT__PASSWORD", "CREDENTIALS_DIRECTORY"} & names


async def test_program_that_cannot_run_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "no-interpreter").write_text("#!/nowhere/python\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    missing = await why_lost(Command(("rpicam-vidd",)))
    assert missing == (
        "The program rpicam-vidd is not installed, or not in PATH. Install it, or correct the camera's key command."
    )
    assert await why_lost(Command((str(tmp_path / "none"),))) == (
        f"The program {tmp_path}/none does not exist. Install it, or correct the camera's key command."
    )
    assert await why_lost(Command((str(tmp_path / "plain"),))) == (
        f"The program {tmp_path}/plain is not executable. Allow it: sudo chmod a+rx {tmp_path}/plain"
    )
    reason = await why_lost(Command((str(tmp_path / "no-interpreter"),)))
    assert "Its last message: It cannot be run: No such file or directory." in reason


def test_csi_commands_have_the_options_of_their_programs() -> None:
    wishes = CaptureOptions(size=(640, 480), fps=7.5)
    pi = csi_command("rpicam-vid", 1, wishes).run
    assert pi[:3] == ("rpicam-vid", "--camera", "1")
    assert {"--nopreview", "--flush"} <= set(pi)
    assert (
        dict(pairwise(pi)).items()
        >= {
            "--timeout": "0",
            "--codec": "mjpeg",
            "--output": "-",
            "--width": "640",
            "--height": "480",
            "--framerate": "7.5",
        }.items()
    )
    assert "--framerate" not in csi_command("libcamera-vid", 0, CaptureOptions()).run
    jetson = csi_command("nvarguscamerasrc", 0, wishes).run
    assert jetson[:4] == ("gst-launch-1.0", "-q", "nvarguscamerasrc", "sensor-id=0")
    assert "video/x-raw(memory:NVMM),format=NV12,width=640,height=480,framerate=15/2" in jetson
    assert jetson[-2:] == ("fdsink", "sync=false")


async def test_csi_camera_is_read_by_the_program_of_the_board(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = folder / "rpicam-vid"
    script.write_text(f'#!/bin/sh\nset -- "$1" "{folder}"; echo starting >&2; sleep 0.1; {STREAM}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    seen = Seen()
    camera = open_source("csi", loop=False, on_status=seen)
    assert (await pixels(camera)).shape == (48, 64, 3)
    camera.close()
    await camera.wait_closed()
    await seen.until("online")
    script.write_text("#!/bin/sh\necho 'ERROR: *** no cameras available ***' >&2; exit 255\n")
    seen = Seen()
    camera = open_source("csi:1", loop=False, on_status=seen)
    reason = str((await seen.until("lost")).reason)
    camera.close()
    await camera.wait_closed()
    assert reason.startswith(
        "csi:1 ended with exit code 255. Its last message: ERROR: *** no cameras available ***. Check the cable,"
    )


def test_csi_without_a_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.sources.csi.csi_stack", lambda: None)
    with pytest.raises(SourceError, match="sudo apt install rpicam-apps-lite"):
        CsiCamera("csi", CaptureOptions()).open()


def test_csi_is_neither_a_file_nor_any_word_that_begins_so() -> None:
    assert [is_csi(source) for source in ("csi", "csi:1", "csi:10", "csi.mp4", "/srv/csi")] == [True, True] + [
        False
    ] * 3
    assert not is_file_source("csi:0")
    assert is_file_source("/srv/csi")
