"""Which images of an inbox are given, what is written next to them, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sources.footage import brightness, write_image
from sources.observing import PATIENCE_S, Seen, soon

from agent.classification import Category, Classification, ModelIdentity, Result, Spot, Timing
from agent.errors import ImageDamagedError, MemoryFullError, ModelError, ModelNotFoundError, SourceError
from agent.host.access import Account, Denied
from agent.host.durable import write_and_rename
from agent.inference.results import Results
from agent.sources import inbox_folder
from agent.sources.inbox import Inbox
from agent.sources.inbox_folder import InboxFolder
from agent.sources.source import open_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.errors import AgentError

pytestmark = pytest.mark.anyio

REST_S = 0.03
BIRD = Classification(ModelIdentity("birds", 1, "00" * 32), (Category(0, "robin", 0.9),), Timing(0, 0, 0, 0))


def result() -> Result:
    return Results(device="d").record(BIRD, spot=Spot("front"), captured_ns=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "inbox"
    path.mkdir()
    return path


@asynccontextmanager
async def opened(folder: Path, after: str = "keep", seen: Seen | None = None, **times: Any) -> AsyncIterator[Inbox]:
    times = {"rest_s": REST_S, "next_try_s": 0.01, "backoff": soon(), **times}
    inbox = Inbox(f"inbox:{folder}", after=after, on_status=seen or Seen(), **times)
    try:
        yield inbox
    finally:
        inbox.close()
        await asyncio.wait_for(inbox.wait_closed(), PATIENCE_S)


async def level_of_next(inbox: Inbox, outcome: Result | AgentError | None = None) -> int:
    """Reads an image, answers it and returns its brightness."""
    frame = await asyncio.wait_for(inbox.read(), PATIENCE_S)
    await asyncio.wait_for(inbox.done({None: outcome or result()}), PATIENCE_S)
    return brightness(frame)


async def assert_has_nothing(inbox: Inbox) -> None:
    reading = asyncio.create_task(inbox.read())
    await asyncio.wait({reading}, timeout=10 * REST_S)
    assert not reading.done()
    reading.cancel()
    await asyncio.wait({reading})


def image(folder: Path, name: str, level: int, *, second: int | None = None) -> Path:
    """As from `cp -p`, with `second` as its Unix time."""
    write_image(folder / name, level)
    if second is not None:
        os.utime(folder / name, (second, second))
    return folder / name


def answer(path: Path) -> Any:
    return json.loads(path.with_name(f"{path.name}.json").read_bytes())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_images_are_given_the_oldest_first_and_get_their_answer(folder: Path) -> None:
    for name, level, second in (("a.png", 30, 30), ("b.png", 10, 10), ("c.jpg", 20, 20)):
        image(folder, name, level, second=second)
    seen, given = Seen(), result()
    async with opened(folder, seen=seen) as inbox:
        assert [await level_of_next(inbox, given) for _ in range(3)] == [10, 20, 30]
    assert answer(folder / "a.png") == given.to_json()
    assert names(folder) == ["a.png", "a.png.json", "b.png", "b.png.json", "c.jpg", "c.jpg.json"]
    assert [status.state for status in seen.statuses] == ["online"]


async def test_image_is_given_again_only_if_it_is_newer_than_its_answer(folder: Path) -> None:
    image(folder, "a.png", 10, second=4_000_000_000)  # the clock of the other program is far ahead
    async with opened(folder) as inbox:
        assert await level_of_next(inbox) == 10
    async with opened(folder) as inbox:
        await assert_has_nothing(inbox)
        image(folder, "a.png", 20, second=4_000_000_001)
        assert await level_of_next(inbox) == 20
    (folder / "a.png.json").unlink()
    async with opened(folder) as inbox:
        assert await level_of_next(inbox) == 20


async def test_answer_of_another_program_counts_if_it_is_not_older(folder: Path) -> None:
    image(folder, "a.png", 10, second=10)
    image(folder, "b.png", 20, second=20)
    for name in ("a.png.json", "b.png.json"):
        (folder / name).write_text("{}")
        os.utime(folder / name, (15, 15))
    async with opened(folder, after="delete") as inbox:
        assert await level_of_next(inbox) == 20
        await assert_has_nothing(inbox)
    assert names(folder) == ["a.png", "a.png.json", "b.png.json"]


async def test_image_that_arrives_later_is_given(folder: Path) -> None:
    async with opened(folder) as inbox:
        reading = asyncio.create_task(inbox.read())
        await asyncio.wait({reading}, timeout=3 * REST_S)
        write_image(folder / ".a.tmp.png", 40)
        (folder / ".a.tmp.png").rename(folder / "a.png")
        assert brightness(await asyncio.wait_for(reading, PATIENCE_S)) == 40
        await inbox.done({None: result()})


async def test_image_rests_before_it_is_given(folder: Path) -> None:
    path = image(folder, "a.png", 50)
    inbox = InboxFolder(folder, delete=False, move_to=None, rest_s=0.2)
    inbox.look()
    assert inbox.take() is None
    assert 0 < inbox.next_rested_s() <= 0.2
    os.utime(path, (5, 5))
    await asyncio.sleep(inbox.next_rested_s())
    assert inbox.take() is None  # it changed meanwhile
    assert 0.1 < inbox.next_rested_s() <= 0.2
    await asyncio.sleep(inbox.next_rested_s())
    taken = inbox.take()
    assert taken is not None
    assert taken.content == path.read_bytes()
    assert inbox.take() is None


async def test_answer_is_not_written_to_an_image_that_was_replaced(folder: Path) -> None:
    path = image(folder, "a.png", 10, second=10)
    async with opened(folder) as inbox:
        assert brightness(await asyncio.wait_for(inbox.read(), PATIENCE_S)) == 10
        image(folder, "a.png", 20, second=20)
        await inbox.done({None: result()})
        assert not path.with_name("a.png.json").exists()
        assert await level_of_next(inbox) == 20
    assert path.with_name("a.png.json").stat().st_mtime_ns == 20 * 10**9


async def test_other_files_are_ignored(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = image(tmp_path, "elsewhere.png", 10)
    for name in (".hidden.png", "photo.png.part", "photo.png~", "photo.tmp", "notes.txt"):
        shutil.copy(elsewhere, folder / name)
    (folder / "inner").mkdir()
    shutil.copy(elsewhere, folder / "inner" / "a.png")
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to(elsewhere)
    os.mkfifo(folder / "pipe.png")
    shutil.copy(elsewhere, folder / f"{'x' * 240}.png")
    async with opened(folder) as inbox:
        await assert_has_nothing(inbox)
    assert caplog.text.count("more than 220 bytes") == 1
    assert not [name for name in names(folder) if name.endswith(".json")]


async def test_image_whose_name_is_not_text_is_answered(folder: Path) -> None:
    path = image(folder, "a.png", 10).rename(folder / os.fsdecode(b"\xff.png"))
    async with opened(folder) as inbox:
        assert await level_of_next(inbox) == 10
    assert answer(path)["source"] == "front"


async def test_damaged_image_gets_its_error_once(folder: Path) -> None:
    path = folder / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff damaged")
    async with opened(folder) as inbox:
        frame = await asyncio.wait_for(inbox.read(), PATIENCE_S)
        assert frame is not None
        assert frame.picture == b"\xff\xd8\xff damaged"
        await inbox.done({None: ImageDamagedError("It is damaged.")})
        await assert_has_nothing(inbox)
    assert answer(path) == {"error": "It is damaged."}


async def test_image_that_is_too_large_gets_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_folder, "_MAX_BYTES", 1 << 20)
    (folder / "a.png").write_bytes(b"1" * ((1 << 20) + 1))
    image(folder, "b.png", 10)
    async with opened(folder) as inbox:
        assert await level_of_next(inbox) == 10
    assert answer(folder / "a.png") == {"error": "The file has more than 1 MB. Put a smaller image."}


async def test_images_wait_while_no_model_serves(folder: Path) -> None:
    image(folder, "a.png", 10, second=10)
    image(folder, "b.png", 20, second=20)
    async with opened(folder) as inbox:
        missing = ModelNotFoundError("No model is served.")
        assert [await level_of_next(inbox, missing) for _ in range(20)] == [10] * 20
        assert names(folder) == ["a.png", "b.png"]
        assert [await level_of_next(inbox) for _ in range(2)] == [10, 20]


@pytest.mark.parametrize("error", [ModelError("It fails."), MemoryFullError("It fails.", retry_after_s=1)])
async def test_image_gets_an_error_when_the_model_fails_on_it_repeatedly(folder: Path, error: AgentError) -> None:
    path = image(folder, "a.png", 10)
    async with opened(folder) as inbox:
        for _ in range(4):
            await level_of_next(inbox, error)
            assert names(folder) == ["a.png"]
        await level_of_next(inbox, error)
    assert answer(path) == {"error": "It fails."}


async def test_answered_images_are_deleted(folder: Path) -> None:
    image(folder, "a.png", 10)
    async with opened(folder, after="delete") as inbox:
        await level_of_next(inbox)
    assert names(folder) == ["a.png.json"]


async def test_answered_images_are_moved_without_overwriting(folder: Path, tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.mkdir()
    async with opened(folder, after=f"move:{done}") as inbox:
        for level in (10, 20, 30):
            image(folder, "a.png", level, second=1_795_000_000)
            assert await level_of_next(inbox) == level
            (folder / "a.png.json").unlink()
    assert names(done) == ["a-20261118T110640000-1.png", "a-20261118T110640000.png", "a.png"]
    sizes = {path.name: path.read_bytes() for path in done.iterdir()}
    assert len(set(sizes.values())) == 3


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs another file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        yield Path(folder)


async def test_images_are_moved_to_another_file_system(folder: Path, other_disk: Path) -> None:
    content = image(folder, "a.png", 10, second=7).read_bytes()
    async with opened(folder, after=f"move:{other_disk}") as inbox:
        await level_of_next(inbox)
    assert names(folder) == ["a.png.json"]
    assert names(other_disk) == ["a.png"]
    moved = other_disk / "a.png"
    assert (moved.read_bytes(), moved.stat().st_mtime) == (content, 7)


@pytest.mark.parametrize("is_copied", [True, False])
async def test_answered_image_is_moved_after_a_restart(folder: Path, tmp_path: Path, is_copied: bool) -> None:  # noqa: FBT001
    """The agent was killed after the answer or, across file systems, before the original was removed."""
    done = tmp_path / "done"
    done.mkdir()
    path = image(folder, "a.png", 10)
    async with opened(folder) as inbox:
        await level_of_next(inbox)
    if is_copied:
        shutil.copy2(path, done)
    async with opened(folder, after=f"move:{done}") as inbox:
        await assert_has_nothing(inbox)
    assert (names(folder), names(done)) == (["a.png.json"], ["a.png"])


async def test_inbox_is_lost_while_its_folder_is_missing(tmp_path: Path) -> None:
    seen, folder = Seen(), tmp_path / "inbox"
    async with opened(folder, seen=seen) as inbox:
        reading = asyncio.create_task(inbox.read())
        lost = await seen.until("lost")
        assert lost.reason == f"{folder} does not exist. Create it, or correct the camera's source."
        os.mkdir(folder)  # noqa: PTH102  (ASYNC240)
        await seen.until("lost", "online")
        image(folder, "a.png", 10)
        assert brightness(await asyncio.wait_for(reading, PATIENCE_S)) == 10
        await inbox.done({None: result()})


async def test_inbox_is_lost_while_the_folder_to_move_to_is_missing(folder: Path, tmp_path: Path) -> None:
    seen, done = Seen(), tmp_path / "done"
    done.mkdir()
    image(folder, "a.png", 10)
    async with opened(folder, after=f"move:{done}", seen=seen) as inbox:
        await asyncio.wait_for(inbox.read(), PATIENCE_S)
        done.rmdir()
        finishing = asyncio.create_task(inbox.done({None: result()}))
        lost = await seen.until("online", "lost")
        assert lost.reason == f"{done} does not exist. Create it, or correct the camera's after."
        assert not finishing.done()
        done.mkdir()
        await asyncio.wait_for(finishing, PATIENCE_S)
        await seen.until("online", "lost", "online")
    assert names(done) == ["a.png"]


def test_inbox_refuses_to_move_images_into_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(SourceError, match=re.escape("is the inbox. Give the camera another folder in `after`.")):
        InboxFolder(folder, delete=False, move_to=tmp_path / "link").check()


async def test_answer_is_tried_again_until_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, is_full = Seen(), True

    def write_if_there_is_space(*args: Any, **kwargs: Any) -> None:
        if is_full:
            raise OSError(28, "No space left on device")
        write_and_rename(*args, **kwargs)

    monkeypatch.setattr(inbox_folder, "write_and_rename", write_if_there_is_space)
    path = image(folder, "a.png", 10)
    async with opened(folder, seen=seen) as inbox:
        await asyncio.wait_for(inbox.read(), PATIENCE_S)
        finishing = asyncio.create_task(inbox.done({None: result()}))
        lost = await seen.until("online", "lost")
        assert lost.reason == f"{path}.json cannot be changed: No space left on device. Free some space."
        is_full = False
        await asyncio.wait_for(finishing, PATIENCE_S)
        await seen.until("online", "lost", "online")
    assert answer(path)["source"] == "front"


async def test_image_that_was_read_gets_its_answer_after_close(folder: Path) -> None:
    path = image(folder, "a.png", 10)
    async with opened(folder) as inbox:
        await asyncio.wait_for(inbox.read(), PATIENCE_S)
        inbox.close()
        closed = asyncio.create_task(inbox.wait_closed())
        await asyncio.sleep(0)
        assert not closed.done()
        await inbox.done({None: result()})
        await asyncio.wait_for(closed, PATIENCE_S)
        assert await inbox.read() is None
    assert answer(path)["source"] == "front"


async def test_close_wakes_the_reader(folder: Path) -> None:
    async with opened(folder) as inbox:
        reading = asyncio.create_task(inbox.read())
        await asyncio.wait({reading}, timeout=3 * REST_S)
        inbox.close()
        assert await asyncio.wait_for(reading, PATIENCE_S) is None


async def test_inbox_is_lost_while_its_folder_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, answers, check = Seen(), threading.Event(), InboxFolder.check

    def hang(self: InboxFolder) -> None:
        answers.wait(PATIENCE_S)
        check(self)

    monkeypatch.setattr(InboxFolder, "check", hang)
    async with opened(folder, seen=seen, silent_s=0.01) as inbox:
        reading = asyncio.create_task(inbox.read())
        lost = await seen.until("lost")
        assert lost.reason == f"{folder} does not answer. Check its disk or its file server."
        answers.set()
        await seen.until("lost", "online")
        reading.cancel()


async def test_inbox_that_hangs_takes_no_thread_of_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(InboxFolder, "check", lambda _: answers.wait(PATIENCE_S))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with opened(folder, silent_s=0.01) as inbox:
        reading = asyncio.create_task(inbox.read())
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(int), PATIENCE_S) == 0
        assert not answers.is_set()
        answers.set()
        reading.cancel()


async def test_thousands_of_files_cost_no_time_while_nothing_arrives(folder: Path) -> None:
    content = image(folder, "a.png", 10).read_bytes()
    for number in range(2000):
        path = folder / f"{number}.png"
        path.write_bytes(content)
        shutil.copy(path, f"{path}.json")
    async with opened(folder) as inbox:
        assert await level_of_next(inbox) == 10
        reading = asyncio.create_task(inbox.read())
        await asyncio.wait({reading}, timeout=0.3)  # the changes so far
        begun_s = time.process_time()
        await asyncio.wait({reading}, timeout=1)
        assert time.process_time() - begun_s < 0.1  # one look takes 0.02 s
        reading.cancel()


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user may enter; those of tmp_path are closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name))
        folder.chmod(0o755)
        yield folder


@contextmanager
def as_daemon() -> Iterator[None]:
    os.setegid(1)
    os.seteuid(1)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")


@_as_root
async def test_inbox_is_lost_while_this_user_may_not_write_to_it(open_place: Path) -> None:
    seen = Seen()
    image(open_place, "a.png", 10).chmod(0o644)
    async with opened(open_place, seen=seen) as inbox:
        with as_daemon():
            reading = asyncio.create_task(inbox.read())
            lost = await seen.until("lost")
        os.chmod(open_place, 0o777)  # noqa: PTH101  (ASYNC240)
        with as_daemon():
            assert brightness(await asyncio.wait_for(reading, PATIENCE_S)) == 10
            await inbox.done({None: result()})
    await seen.until("lost", "online")
    remedy = f"Allow it: sudo chgrp daemon {open_place}; sudo chmod g+w {open_place}."
    assert lost.reason == f"The user daemon may not write to {open_place}. {remedy}"
    assert answer(open_place / "a.png")["source"] == "front"


@_as_root
async def test_image_that_this_user_may_not_read_gets_an_error_with_the_remedy(open_place: Path) -> None:
    os.chmod(open_place, 0o777)  # noqa: PTH101  (ASYNC240)
    path = image(open_place, "a.png", 10)
    path.chmod(0o600)
    async with opened(open_place) as inbox:
        with as_daemon():
            await assert_has_nothing(inbox)
    assert answer(path) == {
        "error": f"{path} cannot be read: Permission denied. The user daemon may not read {path}. Allow it: sudo "
        f"chgrp daemon {path}; sudo chmod g+r {path}. Then delete a.png.json, and it is classified."
    }


def test_read_only_inbox_is_named_with_the_setting_of_systemd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(Account, "why_denied", lambda *_, **__: Denied("It may not write.", "Allow it."))
    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly)
    with pytest.raises(SourceError, match=f"ReadWritePaths=-{folder} with `systemctl edit edge-agent`"):
        InboxFolder(folder, delete=False, move_to=None).check()


async def test_source_of_an_inbox_is_an_inbox(folder: Path) -> None:
    source = open_source(f"inbox:{folder}", loop=False, on_status=Seen(), after="delete")
    assert isinstance(source, Inbox)
    source.close()
