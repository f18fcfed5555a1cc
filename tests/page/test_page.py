"""The page of an agent with the demo's camera, a broker and a few models, as a person uses it in a browser."""

from __future__ import annotations

import base64
import re
import signal
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import yaml
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from axe_playwright_python.sync_playwright import Axe
from collection.material import ulid
from end_to_end.material import digit_png, digit_shown, model_file
from peers.mosquitto import Mosquitto, free_port
from playwright.sync_api import expect

from agent.cameras.reference import ReferenceFile
from agent.cameras.scene import small_gray
from agent.classification import Spot
from agent.collection.folder import CollectionFolder
from agent.config.camera import CameraSection
from agent.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from page.conftest import Look
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, broker: Mosquitto) -> Iterator[RunningAgent]:
    """It keeps its port when it starts again."""
    agent = RunningAgent(
        tmp_path_factory.mktemp("agent"),
        device={"id": "garden"},
        http={"port": free_port()},
        cameras={"digits": {"source": str(VIDEO), "loop": True, "model": "digits"}},
        mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port},
        profiles={"strict": {"cameras": {"digits": {"score_threshold": 0.9}}}},
    )
    agent.drop(DIGITS.read_bytes())
    with agent:
        yield agent


def camera(page: Page) -> Locator:
    return page.get_by_role("article", name="digits").filter(has=page.locator(".picture"))


def model(page: Page, name: str = "digits") -> Locator:
    return page.get_by_role("article", name=name).filter(has_not=page.locator(".picture"))


def test_the_picture_appears_and_the_label_follows_the_video(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("garden")
    expect(page.get_by_text("Ready", exact=True)).to_be_visible()
    picture = camera(page).get_by_role("img", name="Live picture of the camera digits")
    wait_until(lambda: picture.evaluate("image => image.naturalWidth > 0"), what="the picture is there")
    label = camera(page).locator(".label strong")
    first = label.inner_text()
    assert re.fullmatch("[0-9]", first)
    expect(label).not_to_have_text(first)
    expect(page.get_by_role("region", name="Changes").get_by_role("listitem").nth(1)).to_be_visible()
    expect(camera(page).locator(".scores li").first).to_contain_text("%")
    expect(camera(page).get_by_text(re.compile(r"^[1-9][0-9.]* frames/s"))).to_be_visible()


def test_an_image_can_be_chosen_and_dropped(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url, errors=True)
    section = page.get_by_role("region", name="Classify an image")
    answer = section.locator(".label")
    picture = {"name": "three.png", "mimeType": "image/png", "buffer": digit_png()}
    section.get_by_label("Choose an image").set_input_files(picture)  # type: ignore[arg-type]  # a FilePayload
    expect(answer).to_have_text(digit_shown(0))
    expect(section.get_by_role("img", name="The image three.png")).to_be_visible()

    drop(section, b"not an image", "notes.txt")
    expect(section.locator(".trouble")).to_contain_text("Send a JPEG, PNG")
    expect(answer).to_have_count(0)
    drop(section, digit_png(), "dropped.png")
    expect(answer).to_have_text(digit_shown(0))
    expect(section.get_by_role("img", name="The image dropped.png")).to_be_visible()


def drop(target: Locator, content: bytes, name: str) -> None:
    script = """([encoded, name]) => {
        const transfer = new DataTransfer();
        const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name));
        return transfer;
    }"""
    transfer = target.page.evaluate_handle(script, [base64.b64encode(content).decode(), name])
    target.dispatch_event("drop", {"dataTransfer": transfer})


def test_a_model_shows_what_it_runs_on(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url)
    expect(model(page)).to_contain_text(f"Runs on {agent.model()['runtime']}.")


def test_a_rejected_file_shows_its_reason(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url)
    agent.drop(b"This is not a model." * 100, "broken")
    expect(model(page, "broken")).to_contain_text("broken.tflite was rejected")
    expect(model(page, "broken")).to_contain_text(agent.rejection("broken"))
    (agent.models / "broken.tflite").unlink()
    expect(model(page, "broken")).to_have_count(0)


def test_a_version_can_be_rolled_back_pinned_and_unpinned(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url)
    shown = model(page)
    agent.drop(model_file(2))
    expect(shown.locator("header")).to_contain_text("Version 2")
    shown.get_by_role("button", name="Roll back").click()
    page.get_by_role("button", name="Cancel").click()
    assert agent.model()["serving"]["version"] == "2"
    shown.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(shown.locator("header")).to_contain_text("Version 1")
    expect(page.get_by_role("status").filter(has_text="Version 1 of digits serves.")).to_be_visible()
    assert agent.model()["serving"]["version"] == "1"

    shown.get_by_text("2 versions").click()
    shown.get_by_role("button", name="Serve and pin version 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Serve version 2").click()
    expect(shown.locator("header")).to_contain_text("Version 2")
    expect(shown).to_contain_text("Newer files do not replace version 2.")
    shown.get_by_role("button", name="Unpin").click()
    page.get_by_role("dialog").get_by_role("button", name="Unpin").click()
    expect(shown.get_by_role("button", name="Unpin")).to_have_count(0)
    assert agent.model()["pinned"] is None


def test_a_camera_can_be_switched_off_and_on(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url)
    switch = camera(page).get_by_role("switch", name="Camera digits")
    expect(switch).to_be_checked()
    switch.click()
    expect(switch).not_to_be_checked()
    expect(camera(page)).to_contain_text("This camera is switched off.")
    switch.click()
    expect(switch).to_be_checked()
    expect(camera(page).locator(".label strong")).to_be_visible()


def test_cameras_come_and_go_with_a_reload(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url, errors=True)  # it may ask for the picture of a camera that has just gone
    expect(camera(page)).to_be_visible()
    path = agent.models.parent / "agent.yaml"
    before = path.read_text()
    both = yaml.safe_load(before)
    both["cameras"]["second"] = both["cameras"]["digits"]
    path.write_text(yaml.safe_dump(both))
    agent.process.send_signal(signal.SIGHUP)
    second = page.get_by_role("article", name="second")
    expect(second.locator(".label strong")).to_be_visible()
    path.write_text(before)
    agent.process.send_signal(signal.SIGHUP)
    expect(second).to_have_count(0)
    expect(camera(page)).to_be_visible()


def test_each_view_is_shown_and_announced_under_its_name(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url, errors=True)  # it may ask for the picture of a camera that has just gone
    path = agent.models.parent / "agent.yaml"
    before = path.read_text()
    more = yaml.safe_load(before)
    more["cameras"]["second"] = more["cameras"]["digits"] | {"views": {"near": {}, "far": {}}}
    path.write_text(yaml.safe_dump(more))
    agent.process.send_signal(signal.SIGHUP)
    second = page.get_by_role("article", name="second")
    expect(second.get_by_role("heading", level=4)).to_have_text(["far", "near"])
    expect(second.locator(".label strong")).to_have_count(2)
    expect(page.locator(".spoken")).to_contain_text(re.compile("second, near: ([0-9]|nothing recognized)"))
    path.write_text(before)
    agent.process.send_signal(signal.SIGHUP)
    expect(second).to_have_count(0)


def test_the_page_shows_that_the_broker_is_gone_and_back(agent: RunningAgent, broker: Mosquitto, look: Look) -> None:
    page = look(agent.url)
    chips = page.locator(".chips")
    expect(chips).to_contain_text("Broker connected")
    broker.kill()
    expect(chips).to_contain_text("Broker unreachable")
    expect(page.locator(".troubles")).to_contain_text(str(broker.port))
    broker.start()
    expect(chips).to_contain_text("Broker connected")


def test_the_page_reconnects_after_the_agent_has_started_again(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url, errors=True)
    expect(page.get_by_text("Ready", exact=True)).to_be_visible()
    agent.end()
    expect(page.get_by_text("The agent does not answer.")).to_be_visible()
    expect(page.get_by_text("No connection", exact=True)).to_have_count(2)  # of the device and of its camera
    agent.restart()
    expect(page.get_by_text("Ready", exact=True)).to_be_visible()
    expect(page.get_by_text("The agent does not answer.")).to_have_count(0)
    picture = camera(page).get_by_role("img", name="Live picture of the camera digits")
    wait_until(lambda: picture.evaluate("image => image.naturalWidth > 0"), what="the picture is back")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_and_axe_finds_nothing_serious(agent: RunningAgent, look: Look, width: int, scheme: str) -> None:
    page = look(agent.url, viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=width == 360)
    expect(camera(page).locator(".label strong")).to_be_visible()
    model(page).locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)


def assert_accessible(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"]) for each in found if each["impact"] in ("serious", "critical")] == []
    small = """() => [...document.querySelectorAll("button, select, summary, a, input")]
        .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44)
        .map((each) => each.outerHTML)"""
    assert page.evaluate(small) == []


def test_the_documentation_page_works_without_internet(agent: RunningAgent, look: Look) -> None:
    page = look(f"{agent.url}/docs")
    expect(page.get_by_role("heading", name="edge-agent")).to_be_visible()
    expect(page.locator(".opblock").first).to_be_visible()


def test_the_page_says_how_to_begin_and_shows_labels_as_text(tmp_path: Path, look: Look) -> None:
    with RunningAgent(tmp_path) as agent:
        page = look(agent.url, viewport={"width": 360, "height": 800})
        expect(page.get_by_text("No camera is configured.")).to_be_visible()
        expect(page.get_by_text("No model yet.")).to_be_visible()
        expect(page.locator(".troubles")).to_contain_text("No model is served yet.")
        assert_accessible(page)

        labels = tuple(f"<img src=x onerror=alert({digit})> & {'very long label ' * 20}{digit}" for digit in range(10))
        agent.drop(model_file(1, labels))
        expect(page.get_by_text("Ready", exact=True)).to_be_visible()
        picture = {"name": "digit.png", "mimeType": "image/png", "buffer": digit_png()}
        page.get_by_label("Choose an image").set_input_files(picture)  # type: ignore[arg-type]  # a FilePayload
        expect(page.locator(".classify .label")).to_have_text(labels[int(digit_shown(0))])
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.close()  # before the agent ends


def test_a_profile_is_chosen_on_the_page_and_one_that_is_chosen_elsewhere_is_shown(
    agent: RunningAgent, look: Look
) -> None:
    page = look(agent.url)
    select = page.get_by_label("Profile")
    expect(select).to_have_value("auto")
    expect(page.get_by_text("none is active now")).to_be_visible()
    select.select_option("strict")
    expect(page.get_by_text("Profile: strict.")).to_be_visible()
    assert_accessible(page)
    assert agent.json("/api/profile")["active"] == "strict"
    agent.post("/api/profile", json={"profile": "auto"})
    expect(select).to_have_value("auto")


def test_a_camera_that_has_moved_says_so_until_a_new_reference_picture_is_taken(look: Look, tmp_path: Path) -> None:
    frame = tmp_path / "frame.jpg"
    cv2.imwrite(str(frame), boxes(2))
    live = {"command": {"run": ["/bin/sh", "-c", 'while cat "$1"; do sleep 0.1; done', "sh", str(frame)]}}
    made_by = CameraSection.model_validate(live).made_by
    ReferenceFile(tmp_path / "state/references/yard.json", made_by=made_by).save(small_gray(Image(boxes(1), "bgr")))
    agent = RunningAgent(tmp_path, cameras={"yard": live})
    agent.drop(DIGITS.read_bytes())
    with agent:
        card = look(agent.url, errors=True).get_by_role("article", name="yard")  # the agent ends before the page
        expect(card).to_contain_text("does not show the place of the reference picture", timeout=40_000)
        card.get_by_role("button", name="Take a new reference picture").click()
        expect(card).not_to_contain_text("reference picture")


def boxes(seed: int) -> npt.NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    pixels = np.full((240, 320, 3), 120, np.uint8)
    for x, y, gray in random.integers((0, 0, 0), (280, 200, 255), (40, 3)).tolist():
        pixels[y : y + 36, x : x + 36] = gray
    return pixels


def test_frames_for_training_are_shown_downloaded_and_deleted(tmp_path: Path, look: Look) -> None:
    folder = CollectionFolder(tmp_path / "state/collection", reserve_bytes=0)
    folder.folder.parent.mkdir()
    jpeg = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    for second in (1, 2):
        document = {"id": ulid(second), "best": {"index": 0, "label": f"<b>{second}</b>", "score": 0.5}}
        folder.add(Spot("front", "door"), jpeg, document, max_bytes=1 << 20)
    with RunningAgent(tmp_path) as agent:
        page = look(agent.url)
        section = page.get_by_role("region", name="Frames for training")
        expect(section.get_by_role("listitem")).to_have_count(2)
        expect(section.get_by_role("listitem").first).to_contain_text("<b>2</b>")
        picture = section.get_by_role("img", name="<b>2</b>, front, door")
        wait_until(lambda: picture.evaluate("image => image.naturalWidth") == 64, what="the picture is there")
        assert_accessible(page)
        with page.expect_download() as download:
            section.get_by_role("link", name="Download all").click()
        assert download.value.suggested_filename == "collection.zip"
        section.get_by_role("button", name="Delete <b>2</b>, front, door").click()
        expect(section.get_by_role("listitem")).to_have_count(1)
        section.get_by_role("button", name="Delete all").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete all").click()
        expect(section).to_be_hidden()
        assert folder.frames() == []
        page.close()
