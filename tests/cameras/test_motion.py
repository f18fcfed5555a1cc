from __future__ import annotations

import functools
import itertools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.clock import UnixClock
from agents.heard import Heard
from cameras.day_and_night import CHANGED, FRAMES, film, scores

from agent.cameras.motion import MotionGate
from agent.cameras.state import StableLabel
from agent.cameras.view import View
from agent.classification import Classification, ModelIdentity, Result, Spot, Timing
from agent.errors import ImageDamagedError, ModelError, ModelNotFoundError
from agent.frame import Frame
from agent.framing import WHOLE, Framing
from agent.image import Image, decode
from agent.inference.options import Options
from agent.inference.results import Results

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.errors import AgentError
    from agent.runtimes.scores import Scores

STILL = frozenset(range(FRAMES)) - CHANGED
WIDTH, HEIGHT = 640, 480
REGION = (0.5, 0.5, 0.75, 0.75)  # of 320, 240, 480, 360 pixels


def plain(level: float = 100) -> npt.NDArray[np.float32]:
    return np.full((HEIGHT, WIDTH, 3), level, np.float32)


def slope() -> npt.NDArray[np.float32]:
    return np.linspace(20, 180, WIDTH, dtype=np.float32)[None, :, None] + np.zeros((HEIGHT, 1, 3), np.float32)


@functools.cache
def grain(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float64]:
    """Noise with a standard deviation of 1."""
    return np.random.default_rng(seed).standard_normal(shape)


def frame_of(pixels: npt.NDArray[np.float32], at_s: float = 1, *, noise: float = 0, seed: int = 0) -> Frame:
    if noise:
        pixels = pixels + (noise * grain(pixels.shape, seed)).astype(np.float32)
    return Frame(Image(np.clip(pixels, 0, 255).round().astype(np.uint8), "bgr"), captured_ns=int(at_s * 1e9))


def with_object(
    pixels: npt.NDArray[np.float32], *color: float, left: int = 101, top: int = 203, side: int = HEIGHT // 12
) -> npt.NDArray[np.float32]:
    pixels = pixels.copy()
    pixels[top : top + side, left : left + side] += color
    return pixels


def gate_after(frame: Frame, framing: Framing = WHOLE, *, forced_every_s: float = 60) -> MotionGate:
    gate = MotionGate(framing, forced_every_s=forced_every_s)
    assert gate.is_open(frame)
    gate.classified(frame)
    return gate


def is_changed(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], *, noise: float = 0) -> bool:
    return gate_after(frame_of(before, noise=noise)).is_open(frame_of(after, noise=noise, seed=1))


@pytest.mark.parametrize("quality", [None, pytest.param(80, marks=pytest.mark.long)])
def test_gate_misses_no_change_of_a_day_and_skips_still_frames(quality: int | None) -> None:
    """A change of less than a cell, such as a step of the cat behind the edge, may open it one frame later."""
    gate = MotionGate(WHOLE, forced_every_s=60)
    opened = set()
    for n, frame in enumerate(film(quality=quality)):
        if gate.is_open(frame):
            gate.classified(frame)
            opened.add(n)
    assert sorted(n for n in CHANGED if n not in opened and n + 1 not in opened) == []
    assert len(STILL & opened) <= 0.2 * len(STILL)


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize(("left", "top"), [(0, 0), (101, 203), (333, 77), (599, 439)])
def test_small_object_of_little_contrast_opens_the_gate_anywhere(channel: int, left: int, top: int) -> None:
    color = [0.0, 0.0, 0.0]
    color[channel] = 25
    for background in (plain(), slope(), plain(10)):
        assert is_changed(background, with_object(background, *color, left=left, top=top), noise=3)


def test_change_of_color_alone_opens_the_gate() -> None:
    """A red light becomes green and keeps its luma."""
    red = with_object(plain(), 0, 0, 80)
    green = with_object(plain(), 0, 80 * 0.299 / 0.587, 0)
    assert is_changed(red, green)


@pytest.mark.parametrize("noise", [0, 3, 8, 15])
@pytest.mark.parametrize("level", [8, 100, 250])
def test_noise_does_not_open_the_gate(noise: float, level: float) -> None:
    gate = gate_after(frame_of(plain(level), noise=noise))
    assert not any(gate.is_open(frame_of(plain(level), noise=noise, seed=seed)) for seed in range(1, 6))


def test_noise_of_a_small_picture_does_not_open_the_gate_but_objects_do() -> None:
    """Its cells have 16 pixels, so their means are noisy."""
    small = plain()[:120, :160]
    assert not any(is_changed(small, small, noise=noise) for noise in (2, 5, 8))
    assert is_changed(small, with_object(small, 25, 25, 25, left=30, top=50, side=10), noise=8)


@pytest.mark.parametrize("factor", [0.9, 0.95, 1.05, 1.1])
def test_brightness_of_all_cells_does_not_open_the_gate(factor: float) -> None:
    assert not is_changed(slope(), slope() * factor, noise=2)
    assert is_changed(slope(), with_object(slope() * factor, 9, 9, 9), noise=2)


@pytest.mark.parametrize("tint", [(4, 0, -4), (0, 4, 0), (-4, 0, 4)])
def test_white_balance_does_not_open_the_gate(tint: tuple[float, float, float]) -> None:
    after = slope() + np.asarray(tint, np.float32)
    assert not is_changed(slope(), after, noise=2)
    assert is_changed(slope(), with_object(after, 14, 0, 0), noise=2)


@pytest.mark.parametrize(("before", "after"), [(100, 10), (10, 100), (30, 15), (5, 30), (255, 0), (100, 80)])
def test_lights_switched_on_or_off_open_the_gate(before: float, after: float) -> None:
    assert is_changed(plain(before), plain(after), noise=2)


def test_colored_light_opens_the_gate() -> None:
    assert is_changed(plain(), plain() + np.asarray((-20, 0, 20), np.float32), noise=2)


def test_brightness_that_drifts_opens_the_gate_once_it_is_another() -> None:
    gate = gate_after(frame_of(plain(100)))
    levels = [level for level in range(99, 60, -1) if gate.is_open(frame_of(plain(level)))]
    assert 80 <= levels[0] <= 90


def test_another_scene_opens_the_gate() -> None:
    rng = np.random.default_rng(4)
    scenes = [cv2.resize(rng.uniform(0, 255, (9, 12, 3)).astype(np.float32), (WIDTH, HEIGHT)) for _ in range(2)]
    assert is_changed(*scenes)
    assert is_changed(scenes[0], np.roll(scenes[0], WIDTH // 16, axis=1))  # the camera was turned


def test_only_the_region_opens_the_gate() -> None:
    before = gate_after(frame_of(plain()), Framing(REGION))
    for left, top in ((320 - 24, 300), (480 + 4, 300), (400, 240 - 24), (400, 360 + 4), (0, 0)):
        assert not before.is_open(frame_of(with_object(plain(), 50, 50, 50, left=left, top=top, side=20)))
    for left, top in ((320, 240), (460, 340), (401, 303)):
        assert before.is_open(frame_of(with_object(plain(), 9, 9, 9, left=left, top=top, side=120 // 12)))


def test_masked_pixels_do_not_open_the_gate() -> None:
    masks = (((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),)
    gate = gate_after(replace(frame_of(plain()), masks=masks))
    assert not gate.is_open(replace(frame_of(with_object(plain(), 99, 99, 99)), masks=masks))
    assert gate.is_open(replace(frame_of(with_object(plain(), 99, 99, 99, left=400)), masks=masks))


def test_gate_compares_with_the_frame_that_was_classified_and_not_with_the_last_one() -> None:
    gate = gate_after(frame_of(plain()))
    first = next(shift for shift in range(1, 20) if gate.is_open(frame_of(with_object(plain(), shift, shift, shift))))
    assert 5 <= first <= 8
    assert gate.is_open(frame_of(with_object(plain(), 20, 20, 20)))  # not classified: the model was missing
    assert gate.is_open(frame_of(with_object(plain(), 20, 20, 20)))
    gate.classified(frame_of(with_object(plain(), 20, 20, 20)))
    assert not gate.is_open(frame_of(with_object(plain(), 20, 20, 20)))


def test_gate_opens_after_the_given_time_although_nothing_changes() -> None:
    gate = gate_after(frame_of(plain(), 1), forced_every_s=10)
    assert not gate.is_open(frame_of(plain(), 10.9))
    frame = frame_of(plain(), 11)
    assert gate.is_open(frame)
    assert gate.is_open(frame_of(plain(), 11.2))  # the last one was not classified
    gate.classified(frame)
    assert not gate.is_open(frame_of(plain(), 20.9))
    assert gate.is_open(frame_of(plain(), 21))


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (1000, 562)])
def test_gate_sees_the_same_in_a_jpeg_decoded_at_any_size(size: tuple[int, int]) -> None:
    pixels = cv2.resize(next(film()).image().pixels, size, interpolation=cv2.INTER_CUBIC)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    sizes = [Frame(decode(jpeg, smallest_side=side), 0) for side in (24, 100, 200, None)]
    assert len({frame.image().width for frame in sizes}) == 4
    assert not any(gate_after(one).is_open(other) for one in sizes for other in sizes)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 3, 3), (30, 900, 3), (48, 64)])
def test_gate_takes_pictures_of_any_shape_and_opens_when_it_changes(shape: tuple[int, ...]) -> None:
    frame = Frame(Image(np.full(shape, 100, np.uint8), "bgr" if len(shape) == 3 else "gray"), 0)
    gate = gate_after(frame)
    assert not gate.is_open(frame)
    assert gate.is_open(Frame(Image(np.full((240, 320, 3), 100, np.uint8), "bgr"), 0))
    assert gate.is_open(Frame(Image(np.full(shape, 160, np.uint8), "bgr" if len(shape) == 3 else "gray"), 0))


class Watching:
    """A data plane with the model of the film; `error` is raised instead of an answer."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.shown: list[Frame] = []
        self.error: AgentError | None = None
        self._results = Results(device="d", clock=UnixClock())
        self._scores: dict[int, Scores] = {}  # of the frame at that time, for all views

    def show(self, frame: Frame) -> None:
        self.shown.append(frame)

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        if self.error is not None:
            raise self.error
        if frame.captured_ns not in self._scores:
            self._scores = {frame.captured_ns: scores(frame.image())}
        seen = self._scores[frame.captured_ns]
        categories = seen.best(options.max_results, threshold=seen.threshold(options.score_threshold))
        answer = Classification(ModelIdentity("m", 1, "00" * 32), categories, Timing(0, 0, 0, 0))
        result = self._results.record(answer, spot=spot, captured_ns=frame.captured_ns)
        self.heard.classified(result)
        return result, seen

    def view(self, name: str | None = None, *, is_gated: bool = True, threshold: float = 0.6, **state: float) -> View:
        return View(
            Spot("yard", name),
            Options(score_threshold=threshold),
            data_plane=self,
            listener=self.heard,
            stable=StableLabel(score_threshold=threshold, **{"frames": 3, **state}),  # type: ignore[arg-type]
            pictures=self,
            gate=MotionGate(WHOLE, forced_every_s=60) if is_gated else None,
        )


STATES: dict[str, list[tuple[int, str | None]]] = {
    # Behind the pillar, too little of the cat is visible for a label, and for too long for `stable_frames`.
    "plain": [
        *[(2, "empty"), (156, "cat"), (171, None), (176, "cat"), (279, None), (283, "cat"), (301, "empty")],
        *[(426, "cat"), (441, None), (446, "cat"), (558, None), (564, "cat"), (581, "dark")],
        *[(702, "empty"), (752, "dark"), (822, "cat"), (862, "dark")],
    ],
    # The cat stays a cat behind the pillar. The lamp is off again, and the third cat there, before their time has come.
    "held": [
        *[(2, "empty"), (156, "cat"), (301, "empty"), (426, "cat"), (581, "dark")],
        *[(702, "empty"), (777, "dark"), (852, "cat")],
    ],
    # Every change comes when half of the ten frames and then three in a row agree.
    "mean": [
        *[(2, "empty"), (160, "cat"), (304, "empty"), (430, "cat"), (584, "dark")],
        *[(706, "empty"), (757, "dark"), (827, "cat"), (866, "dark")],
    ],
}


@pytest.mark.anyio
@pytest.mark.parametrize("quality", [None, pytest.param(80, marks=pytest.mark.long)])
async def test_states_of_a_day_are_those_written_down_with_and_without_the_gate(quality: int | None) -> None:
    plane = Watching()
    views = [
        plane.view(f"{name}{is_gated}", is_gated=is_gated, **keys)
        for name, keys in {
            "plain": {},
            "held": {"leave_threshold": 0.3, "hold_s": 15},
            "mean": {"threshold": 0.5, "mean_frames": 10},
        }.items()
        for is_gated in (False, True)
    ]
    seen: dict[str, list[tuple[int, str | None]]] = {str(view.spot.view): [] for view in views}
    for n, frame in enumerate(film(quality=quality)):
        before = len(plane.heard.states)
        for view in views:
            await view.look(frame)
        for spot, state in plane.heard.states[before:]:
            seen[str(spot.view)].append((n, state.label))
    for name, states in STATES.items():
        for announced in (seen[f"{name}False"], seen[f"{name}True"]):
            assert [label for _, label in announced] == [label for _, label in states]
            assert [n for n, _ in announced] == pytest.approx([n for n, _ in states], abs=2)
    looks = Counter(result.view for result in plane.heard.results)
    assert [looks[f"{name}False"] for name in STATES] == [FRAMES] * 3
    assert max(looks[f"{name}True"] for name in STATES) < FRAMES / 3


@pytest.mark.anyio
async def test_skipped_frame_has_no_result_and_is_counted_and_shown() -> None:
    plane = Watching()
    view = plane.view()
    frames = list(itertools.islice(film(), 5))
    outcomes = [await view.look(frame) for frame in frames]
    assert [outcome is None for outcome in outcomes] == [False, False, False, True, True]
    assert len(plane.heard.results) == 3
    assert plane.heard.skipped_spots == [Spot("yard")] * 2
    assert plane.shown == frames


@pytest.mark.anyio
async def test_frames_are_classified_while_they_fail_and_until_the_state_has_settled() -> None:
    plane = Watching()
    view = plane.view(frames=2)
    frame = next(film())
    plane.error = ModelNotFoundError("No model is served.")
    assert [await view.look(frame), await view.look(frame)] == [plane.error, plane.error]
    plane.error = None
    assert [await view.look(frame) is None for _ in range(3)] == [False, False, True]


@pytest.mark.anyio
async def test_view_with_trouble_is_classified_although_it_looks_as_before() -> None:
    plane = Watching()
    view = plane.view(frames=1)
    empty, *_, cat = itertools.islice(film(), 170)
    assert [await view.look(empty) is None for _ in range(2)] == [False, True]
    plane.error = ModelError("The runtime fails.")
    assert await view.look(cat) is plane.error
    plane.error = None
    assert [await view.look(empty) is None for _ in range(2)] == [False, True]
    assert view.trouble is None


@pytest.mark.anyio
async def test_damaged_picture_is_reported_by_the_data_plane_although_the_gate_decodes_it_first() -> None:
    plane = Watching()
    plane.error = ImageDamagedError("The image is damaged.")
    damaged = Frame(b"\xff\xd8\xff", captured_ns=0)
    assert await plane.view().look(damaged) is plane.error
    assert plane.heard.skipped_spots == []
