from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from cameras.filming import PHOTOS, Film, photo

from agent.cameras.health import HealthJudge
from agent.cameras.scene import HEIGHT, WIDTH, small_gray, visible_part
from agent.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

HOLD_S, LOOKS = 10.0, 2
EVERY_PHOTO = [*PHOTOS[:3], *(pytest.param(name, marks=pytest.mark.long) for name in PHOTOS[3:])]
WHOLE = visible_part([])
FAULTS: dict[str, tuple[str, Callable[[Film], Image]]] = {
    "a hand": ("covered", lambda film: film.hand()),
    "a lid": ("covered", lambda film: film.black()),
    "a white sheet": ("covered", lambda film: film.white()),
    "out of focus": ("blurred", lambda film: film.day(blur=0.02, people=1)),
    "far out of focus": ("blurred", lambda film: film.day(blur=0.04)),
    "shifted a little": ("moved", lambda film: film.day(right=0.04, people=1)),
    "shifted far": ("moved", lambda film: film.day(right=0.2, down=0.1)),
    "upside down": ("moved", lambda film: film.day(turn=180)),
}
FAULTS_AT_NIGHT: dict[str, tuple[str, Callable[[Film], Image]]] = {
    "a hand": ("covered", lambda film: film.hand()),
    "out of focus": ("blurred", lambda film: film.infrared(blur=0.02)),
    "shifted": ("moved", lambda film: film.infrared(right=0.06, down=-0.04)),
}


class Camera:
    """Its clock runs only when it looks."""

    def __init__(self, *, judge: HealthJudge | None = None) -> None:
        self.judge = judge or HealthJudge(WHOLE, hold_s=HOLD_S)
        self.now_s = 1000.0

    def look(self, image: Image, *, after_s: float = 1.0) -> str:
        self.now_s += after_s
        return self.judge.look(small_gray(image), self.now_s).state

    def first_minute(self, picture: Callable[[], Image]) -> None:
        for _ in range(7):
            self.look(picture(), after_s=10)
        assert self.judge.reference is not None

    def looks_until(self, fault: str, picture: Callable[[], Image]) -> int:
        return next(number for number in range(1, 100) if self.look(picture()) == fault)


def film_of(assets: Path, name: str) -> Film:
    return Film(photo(assets / "photos" / name), photo(assets / "photos/grace_hopper.bmp"))


def drawing(seed: int = 1) -> Image:
    """Boxes of any gray."""
    random = np.random.default_rng(seed)
    pixels = np.full((HEIGHT, WIDTH), 120, np.uint8)
    for x, y, gray in random.integers((0, 0, 0), (140, 100, 255), (40, 3)).tolist():
        pixels[y : y + 18, x : x + 18] = gray
    return Image(pixels, "gray")


def with_noise(image: Image, seed: int, *, deviation: float = 2) -> Image:
    noise = np.random.default_rng(seed).normal(0, deviation, image.pixels.shape)
    return Image(np.clip(image.pixels + noise, 0, 255).astype(np.uint8), "gray")


def faults(camera: Camera, images: Iterable[Image], *, every_s: float) -> list[str]:
    return [fault for image in images if (fault := camera.look(image, after_s=every_s)) != "ok"]


def shows(camera: Camera, image: Image) -> bool:
    """Whether the reference of the camera is that image."""
    reference = camera.judge.reference
    return reference is not None and np.array_equal(reference, image.pixels)


@pytest.mark.assets
@pytest.mark.parametrize("name", EVERY_PHOTO)
def test_health_is_ok_over_a_day_of_sun_shadows_people_rain_fog_and_lamps(assets: Path, name: str) -> None:
    film, camera = film_of(assets, name), Camera()
    camera.first_minute(lambda: film.day(people=1))
    assert faults(camera, (film.hour((12 + look / 5) % 24) for look in range(24 * 5)), every_s=720) == []


@pytest.mark.assets
@pytest.mark.parametrize("name", EVERY_PHOTO)
def test_health_is_ok_when_an_infrared_lamp_lights_the_night(assets: Path, name: str) -> None:
    film, camera = film_of(assets, name), Camera()
    camera.first_minute(film.day)
    assert faults(camera, (film.night_of_infrared() for _ in range(40)), every_s=1) == []
    assert faults(camera, (film.day(people=1) for _ in range(20)), every_s=1) == []


@pytest.mark.assets
@pytest.mark.parametrize("name", EVERY_PHOTO[::2])
@pytest.mark.parametrize("what", FAULTS)
def test_health_reports_a_fault_and_its_end_within_the_hold_time_and_two_looks(
    assets: Path, name: str, what: str
) -> None:
    film, camera = film_of(assets, name), Camera()
    camera.first_minute(lambda: film.day(people=1))
    fault, picture = FAULTS[what]
    assert HOLD_S <= camera.looks_until(fault, lambda: picture(film)) <= HOLD_S + LOOKS
    assert HOLD_S <= camera.looks_until("ok", lambda: film.day(people=1)) <= HOLD_S + LOOKS


@pytest.mark.assets
@pytest.mark.parametrize("name", EVERY_PHOTO[::2])
@pytest.mark.parametrize("what", FAULTS_AT_NIGHT)
def test_health_reports_a_fault_and_its_end_when_an_infrared_lamp_lights_the_night(
    assets: Path, name: str, what: str
) -> None:
    film, camera = film_of(assets, name), Camera()
    camera.first_minute(film.day)
    camera.looks_until("ok", film.infrared)
    fault, picture = FAULTS_AT_NIGHT[what]
    assert HOLD_S <= camera.looks_until(fault, lambda: picture(film)) <= HOLD_S + LOOKS
    assert HOLD_S <= camera.looks_until("ok", film.infrared) <= HOLD_S + LOOKS


@pytest.mark.assets
def test_health_reports_a_move_when_the_camera_shows_another_place(assets: Path) -> None:
    film, other, camera = film_of(assets, "parrot.jpg"), film_of(assets, "sunflower.bmp"), Camera()
    camera.first_minute(film.day)
    assert camera.looks_until("moved", other.day) <= HOLD_S + LOOKS


def test_health_does_not_change_when_a_fault_does_not_hold() -> None:
    camera, black = Camera(), Image(np.zeros((HEIGHT, WIDTH), np.uint8), "gray")
    camera.first_minute(drawing)
    assert faults(camera, [black] * 9 + [drawing()] * 2 + [black] * 9, every_s=1) == []


def test_health_is_covered_without_a_reference_when_the_first_picture_is_flat() -> None:
    camera, white = Camera(), Image(np.full((HEIGHT, WIDTH), 230, np.uint8), "gray")
    assert camera.looks_until("covered", lambda: white) <= HOLD_S + LOOKS
    assert "flat" in (camera.judge.health.reason or "")
    assert faults(camera, [white] * 100, every_s=1) == ["covered"] * 100
    assert camera.judge.reference is None


def test_health_says_dark_when_a_covered_picture_is_dark() -> None:
    camera, black = Camera(), Image(np.full((HEIGHT, WIDTH), 4, np.uint8), "gray")
    camera.looks_until("covered", lambda: with_noise(black, int(camera.now_s)))
    assert "dark" in (camera.judge.health.reason or "")


def test_health_takes_no_reference_before_there_is_light() -> None:
    camera, dim = Camera(), Image((drawing().pixels // 8).astype(np.uint8), "gray")
    assert faults(camera, [dim] * 100, every_s=1) == []
    assert camera.judge.reference is None
    camera.first_minute(drawing)


def test_health_starts_the_minute_again_when_the_camera_is_aimed_meanwhile() -> None:
    camera = Camera()
    faults(camera, [drawing(1)] * 40, every_s=1)
    faults(camera, [drawing(2)] * 40, every_s=1)
    assert camera.judge.reference is None
    faults(camera, [drawing(2)] * 32, every_s=1)
    assert shows(camera, drawing(2))


def test_health_leaves_someone_who_walks_by_out_of_the_reference() -> None:
    camera = Camera()
    for look in range(62):
        pixels = drawing().pixels.copy()
        pixels[40:, 2 * look : 2 * look + 30] = 255
        camera.look(Image(pixels, "gray"))
    assert shows(camera, drawing())


def test_health_is_ok_and_takes_another_reference_after_a_command() -> None:
    camera = Camera()
    camera.first_minute(lambda: drawing(1))
    camera.looks_until("moved", lambda: drawing(2))
    camera.judge.retake()
    assert (camera.judge.health.state, camera.judge.reference) == ("ok", None)
    camera.first_minute(lambda: drawing(2))
    assert camera.looks_until("moved", lambda: drawing(1)) <= HOLD_S + LOOKS


def test_health_stays_covered_after_a_command() -> None:
    camera, black = Camera(), Image(np.zeros((HEIGHT, WIDTH), np.uint8), "gray")
    camera.first_minute(drawing)
    camera.looks_until("covered", lambda: black)
    camera.judge.retake()
    assert camera.judge.health.state == "covered"


def test_health_reports_a_move_at_once_when_it_has_the_reference_of_an_earlier_start() -> None:
    camera = Camera(judge=HealthJudge(WHOLE, reference=drawing(1).pixels))
    assert camera.looks_until("moved", lambda: drawing(2)) <= HOLD_S + LOOKS


def test_health_sees_faults_beside_a_mask_whose_edges_never_change() -> None:
    mask = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]

    def masked(image: Image) -> Image:
        pixels = image.pixels.copy()
        pixels[:, : WIDTH // 2] = 0
        return Image(pixels, "gray")

    def flat() -> Image:
        return masked(Image(np.full((HEIGHT, WIDTH), 200, np.uint8), "gray"))

    camera = Camera(judge=HealthJudge(visible_part([mask])))
    camera.first_minute(lambda: masked(drawing(1)))
    assert camera.looks_until("moved", lambda: masked(drawing(2))) <= HOLD_S + LOOKS
    assert camera.looks_until("covered", flat) <= HOLD_S + LOOKS


def test_health_is_covered_when_a_mask_hides_the_whole_picture() -> None:
    camera = Camera(judge=HealthJudge(visible_part([[(0, 0), (1, 0), (1, 1), (0, 1)]])))
    assert camera.looks_until("covered", drawing) <= HOLD_S + LOOKS


def test_health_ignores_the_time_that_a_camera_writes_into_a_covered_picture() -> None:
    camera, pixels = Camera(), np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[3:9, 4:60:3] = 255
    assert camera.looks_until("covered", lambda: Image(pixels, "gray")) <= HOLD_S + LOOKS
