"""A camera with several views."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import anyio
import cv2
import numpy as np
import pytest
from agents.heard import Heard

from agent.cameras.cameras import Cameras
from agent.classification import Category, Classification, ModelIdentity, Spot, Timing
from agent.config.camera import CameraSection
from agent.errors import ModelNotFoundError
from agent.inference.results import Results
from agent.runtimes.scores import Scores

if TYPE_CHECKING:
    from pathlib import Path

    from agent.classification import Result
    from agent.frame import Frame
    from agent.inference.options import Options
    from agent.listeners import Best, Picture

_SCORES = Scores(np.zeros(0, np.float32), (), scale=0.0, zero_point=0, are_logits=False)


class Brightness:
    """A data plane whose label is the brightness of the view; the model `none` does not exist."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.has_result = anyio.Event()
        self.decoded: list[tuple[int, int]] = []
        self._results = Results(device="d")

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        if options.model == "none":
            raise ModelNotFoundError("Model none is not served.")
        image = frame.image(options.framing.side_of_whole(20))
        self.decoded.append((spot.view == "dark", id(image)))
        label = str(round(float(options.framing.of(image).pixels.mean())))
        answer = Classification(ModelIdentity("m", 1, "0" * 64), (Category(0, label, 0.9),), Timing(0, 0, 0, 0))
        result = self._results.record(answer, spot=spot, captured_ns=frame.captured_ns)
        self.heard.classified(result)
        self.has_result.set()
        return result, _SCORES


async def looked(folder: Path, camera: CameraSection, plane: Brightness | None = None) -> tuple[Brightness, Cameras]:
    """The picture in the folder is dark on its left and bright on its right side."""
    pixels = np.zeros((160, 320, 3), np.uint8)
    pixels[:, 160:] = 200
    cv2.imwrite(str(folder / "a.jpg"), pixels)
    plane = plane or Brightness()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": camera}, data_plane=plane, listener=plane.heard, tasks=tasks)
        cameras.start()
    return plane, cameras


@pytest.mark.anyio
async def test_each_view_has_its_own_results_and_state(tmp_path: Path) -> None:
    views = {"dark": {"region": [0, 0, 0.4, 1]}, "bright": {"region": [0.6, 0, 1, 1]}}
    camera = CameraSection.model_validate({"source": str(tmp_path), "stable_frames": 1, "views": views})
    plane, cameras = await looked(tmp_path, camera)
    results = {result.view: result.to_json() for result in plane.heard.results}
    assert {view: result["categories"][0]["label"] for view, result in results.items()} == {
        "dark": "0",
        "bright": "200",
    }
    assert results["dark"]["source"] == "front"
    assert [spot for spot, _ in plane.heard.states] == [("front", "dark"), ("front", "bright")]
    assert cameras.spots == {"front": (Spot("front", "dark"), Spot("front", "bright"))}


@pytest.mark.anyio
async def test_views_are_decoded_once(tmp_path: Path) -> None:
    views = {"dark": {"region": [0, 0, 0.4, 1]}, "bright": {"region": [0.6, 0, 1, 1]}}
    camera = CameraSection.model_validate({"source": str(tmp_path), "views": views})
    plane, _ = await looked(tmp_path, camera)
    (_, first), (_, second) = plane.decoded
    assert first == second


@pytest.mark.anyio
async def test_view_without_its_model_waits_and_the_others_go_on(tmp_path: Path) -> None:
    camera = CameraSection.model_validate({
        "source": str(tmp_path), "loop": True, "max_fps": 1000, "views": {"a": {"model": "none"}, "b": {}}
    })  # fmt: skip
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    plane = Brightness()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": camera}, data_plane=plane, listener=plane.heard, tasks=tasks)
        cameras.start()
        with anyio.fail_after(10):
            await plane.has_result.wait()
        assert cameras.troubles() == ["Camera front is waiting: View a: Model none is not served."]
        assert {result.view for result in plane.heard.results} == {"b"}
        await cameras.close()


@pytest.mark.anyio
async def test_camera_with_views_shows_its_whole_picture_and_each_view(tmp_path: Path) -> None:
    camera = CameraSection.model_validate(
        {
            "source": str(tmp_path),
            "loop": True,
            "max_fps": 1000,
            "masks": [[[0, 0], [0.5, 0], [0.5, 0.25], [0, 0.25]]],
            "views": {"right": {"region": [0.5, 0, 1, 1]}},
        }
    )
    cv2.imwrite(str(tmp_path / "a.png"), np.full((80, 160, 3), 255, np.uint8))
    plane = Brightness()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": camera}, data_plane=plane, listener=plane.heard, tasks=tasks)
        cameras.start()
        whole, view = cameras.pictures(Spot("front")), cameras.pictures(Spot("front", "right"))
        assert whole is not None
        assert view is not None
        assert cameras.pictures(Spot("front", "left")) is None
        shown = [await pictures.after(0) for pictures in (whole, view)]
        await cameras.close()
    sizes = []
    for found in shown:
        assert found is not None
        picture = cv2.imdecode(np.frombuffer(found[1], np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        sizes.append(picture)
    assert [each.shape for each in sizes] == [(80, 160), (80, 80)]
    assert sizes[0][:16, :72].max() < 10  # the mask; JPEG blurs its edge
    assert sizes[1][:, 8:].min() > 240


class CountedScores(Scores):
    best_of: ClassVar[list[int]] = []

    def best(self, count: int, *, threshold: float = -math.inf) -> tuple[Category, ...]:
        self.best_of.append(count)
        return super().best(count, threshold=threshold)


class Unsure(Brightness):
    """No category reaches the threshold."""

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        result, _ = await super().classify_frame(frame, options, spot=spot)
        answer = replace(result.classification, categories=())
        scores = CountedScores(np.array([0.1, 0.4], np.float32), ("a", "b"), 0.0, 0, are_logits=False)
        return replace(result, classification=answer), scores


class Asks(Heard):
    def __init__(self) -> None:
        super().__init__()
        self.best: list[Category | None] = []

    def looked(self, result: Result, best: Best, picture: Picture) -> None:
        self.best.append(best())


@pytest.mark.anyio
@pytest.mark.parametrize("is_asked", [False, True])
async def test_the_best_category_is_looked_for_only_if_it_is_wanted(tmp_path: Path, *, is_asked: bool) -> None:
    CountedScores.best_of.clear()
    plane = Unsure()
    plane.heard = heard = Asks() if is_asked else Heard()
    await looked(tmp_path, CameraSection(source=str(tmp_path)), plane)
    assert CountedScores.best_of == [1] * is_asked
    if isinstance(heard, Asks):
        assert [category and category.label for category in heard.best] == ["b"]


class Looks(Heard):
    """Also keeps the newest picture, and how many states were announced before it."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[tuple[Result, int, bytes]] = []

    def looked(self, result: Result, best: Best, picture: Picture) -> None:
        self.looks.append((result, len(self.states), picture(40)))


@pytest.mark.anyio
async def test_a_look_is_announced_after_its_state_with_the_masked_picture_of_the_view(tmp_path: Path) -> None:
    camera = CameraSection.model_validate(
        {
            "source": str(tmp_path),
            "stable_frames": 1,
            "masks": [[[0.5, 0], [1, 0], [1, 0.5], [0.5, 0.5]]],
            "views": {"right": {"region": [0.5, 0, 1, 1]}},
        }
    )
    plane = Brightness()
    plane.heard = looks = Looks()
    await looked(tmp_path, camera, plane)
    ((result, states, jpeg),) = looks.looks
    assert result == looks.results[0]
    assert states == 1
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert picture.shape == (40, 40)
    assert picture[:16].max() < 10
    assert picture[24:].min() > 180


class Slow(Brightness):
    """Answers only once `may_go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str | None] = []
        self.has_begun, self.may_go = anyio.Event(), anyio.Event()

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        self.asked.append(spot.view)
        self.has_begun.set()
        await self.may_go.wait()
        return await super().classify_frame(frame, options, spot=spot)


@pytest.mark.anyio
@pytest.mark.parametrize("is_removed", [False, True])
async def test_no_view_looks_or_announces_after_its_camera_was_switched_off(
    tmp_path: Path, *, is_removed: bool
) -> None:
    camera = CameraSection.model_validate(
        {"source": str(tmp_path), "loop": True, "stable_frames": 1, "snapshots": True, "views": {"a": {}, "b": {}}}
    )
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    plane = Slow()
    plane.heard = looks = Looks()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": camera}, data_plane=plane, listener=looks, tasks=tasks)
        cameras.start()
        await plane.has_begun.wait()
        if is_removed:
            cameras.reconfigure({})
        else:
            cameras.switch("front", on=False)
        plane.may_go.set()
    assert plane.asked == ["a"]
    assert (looks.states, looks.looks, looks.snapshots) == ([], [], [])


def test_view_takes_the_keys_that_it_leaves_out_from_its_camera() -> None:
    camera = CameraSection.model_validate(
        {
            "source": "0",
            "model": "birds",
            "score_threshold": 0.7,
            "views": {"a": {"model": "cars"}, "b": {"score_threshold": None}},
        }
    )
    views = {name: (view.model, view.score_threshold) for name, view in camera.all_views.items()}
    assert views == {"a": ("cars", 0.7), "b": ("birds", 0.7)}
    assert list(CameraSection(source="0").all_views) == [None]
