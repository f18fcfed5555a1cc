"""The routes of /api/collection."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import httpx
import pytest
from agents.fake_agent import FakeModels, rest_app
from agents.site import site
from collection.material import FRONT, add, folder_with, ulid

from agent.classification import Spot
from agent.collection.folder import CollectionFolder

if TYPE_CHECKING:
    from pathlib import Path

DOOR = Spot("front", "door")


async def ask(folder: CollectionFolder, method: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(rest_app(FakeModels(), collection=folder))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, f"/api/collection{path}")


@pytest.mark.anyio
async def test_frames_are_listed_newest_first(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 1), (DOOR, 2))
    assert (await ask(folder, "GET", "")).json() == {
        "frames": [
            {"id": ulid(2), "best": {"label": "robin"}, "camera": "front", "view": "door", "bytes": 100},
            {"id": ulid(1), "best": {"label": "robin"}, "camera": "front", "view": None, "bytes": 100},
        ],
        "count": 2,
        "bytes": 200,
    }
    of_view = (await ask(folder, "GET", "?camera=front&view=door")).json()
    assert ([frame["id"] for frame in of_view["frames"]], of_view["count"]) == ([ulid(2)], 1)
    assert (await ask(CollectionFolder(tmp_path / "none"), "GET", "")).json() == {"frames": [], "count": 0, "bytes": 0}


@pytest.mark.anyio
async def test_long_list_is_continued_before_its_last_frame(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, *((FRONT, second) for second in range(103)))
    first = (await ask(folder, "GET", "")).json()
    assert (len(first["frames"]), first["count"]) == (100, 103)
    rest = (await ask(folder, "GET", f"?before={first['frames'][-1]['id']}")).json()
    assert [frame["id"] for frame in rest["frames"]] == [ulid(2), ulid(1), ulid(0)]


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", ".zip"), ("DELETE", "")])
@pytest.mark.parametrize(
    ("query", "sentence"),
    [("cmaera=front", "Unknown parameter cmaera. Supported: camera, view"), ("view=door", "view needs camera")],
)
async def test_a_parameter_with_a_mistake_does_not_choose_all_frames(
    tmp_path: Path, method: str, path: str, query: str, sentence: str
) -> None:
    folder = folder_with(tmp_path, (FRONT, 1), (DOOR, 2))
    answer = await ask(folder, method, f"{path}?{query}")
    assert (answer.status_code, answer.json()["error"][: len(sentence)]) == (400, sentence)
    assert len(folder.frames()) == 2


@pytest.mark.anyio
async def test_picture_is_sent_and_deleted(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 1), (FRONT, 2))
    picture = await ask(folder, "GET", f"/{ulid(1)}.jpg")
    assert (picture.headers["content-type"], picture.content) == ("image/jpeg", b"j" * 100)
    assert (await ask(folder, "DELETE", f"/{ulid(1)}")).json() == {"deleted": 1}
    for method, path in (("GET", f"/{ulid(1)}.jpg"), ("DELETE", f"/{ulid(1)}"), ("GET", "/..%2F..%2Fx.jpg")):
        answer = await ask(folder, method, path)
        assert answer.status_code == 404
    assert answer.json()["error"].endswith("does not exist. See GET /docs for the routes.")
    assert (await ask(folder, "GET", "/x.jpg")).json()["error"] == (
        "Frame x does not exist. GET /api/collection lists the frames."
    )
    assert [frame.captured_s for frame in folder.frames()] == [2]


@pytest.mark.anyio
async def test_all_frames_or_those_of_a_view_are_deleted(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 1), (DOOR, 2), (DOOR, 3))
    assert (await ask(folder, "DELETE", "?camera=front&view=door")).json() == {"deleted": 2}
    assert [frame.spot for frame in folder.frames()] == [FRONT]
    assert (await ask(folder, "DELETE", "")).json() == {"deleted": 1}


@pytest.mark.anyio
async def test_zip_file_is_streamed_with_a_folder_for_each_label(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 1))
    add(folder, DOOR, 2, label="owl")
    answer = await ask(folder, "GET", ".zip")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="collection.zip"'
    assert "content-length" not in answer.headers
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        assert file.namelist()[::2] == [f"owl/{ulid(2)}.jpg", f"robin/{ulid(1)}.jpg"]
    of_door = await ask(folder, "GET", ".zip?camera=front&view=door")
    with zipfile.ZipFile(io.BytesIO(of_door.content)) as file:
        assert file.namelist()[::2] == [f"owl/{ulid(2)}.jpg"]


@pytest.mark.anyio
async def test_zip_file_arrives_whole_over_a_connection_and_head_sends_none_of_it(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, *((FRONT, second) for second in range(50)))
    async with (
        site(rest_app(FakeModels(), collection=folder)) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        content = (await client.get("/api/collection.zip")).content
        head = await client.head("/api/collection.zip")
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert (file.testzip(), len(file.namelist())) == (None, 100)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.anyio
async def test_folder_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "collection").write_text("a file")
    folder = CollectionFolder(tmp_path / "collection")
    for method, path in (
        ("GET", ""),
        ("GET", ".zip"),
        ("GET", f"/{ulid(1)}.jpg"),
        ("DELETE", ""),
        ("DELETE", f"/{ulid(1)}"),
    ):
        answer = await ask(folder, method, path)
        assert answer.status_code == 503
        assert answer.json()["error"] == "The folder with the collected frames cannot be used: Not a directory."
