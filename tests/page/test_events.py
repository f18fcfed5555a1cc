"""The events on the page, of an agent that has recorded many of them before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from events.made import MINUTE_NS, an_event
from page.test_page import assert_accessible
from playwright.sync_api import expect

from agent.classification import Spot
from agent.events.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from page.conftest import Look
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.timeout(90)

_LONG_AGO_NS = 1_700_000_000 * 10**9
_STORED = 120
_LABEL = "<b>heron</b> & a very long label" * 3


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """Its camera digits shows the video, and the camera old is switched off. The gate has seen one heron."""
    folder = tmp_path_factory.mktemp("agent")
    database = Database.open(folder / "state/events/events.db", max_events=1000, max_bytes=10**8)
    for number in range(_STORED):
        spot = Spot("old", "gate" if number % 2 else "door")
        label = _LABEL if number == 1 else "robin" if number % 2 else "wren"
        database.put(an_event(label, spot=spot, at_ns=_LONG_AGO_NS + number * MINUTE_NS), None)
    database.commit()
    database.close()
    agent = RunningAgent(
        folder,
        events={"enabled": True},
        cameras={
            "digits": {"source": str(VIDEO), "loop": True, "model": "digits"},
            "old": {"source": str(VIDEO), "enabled": False, "views": {"door": {}, "gate": {}}},
        },
    )
    agent.drop(DIGITS.read_bytes())
    with agent:
        wait_until(lambda: len(agent.json("/api/events?camera=digits")["events"]) > 2, what="events are recorded")
        yield agent


def events(page: Page) -> Locator:
    return page.get_by_role("region", name="Events")


def entries(page: Page) -> Locator:
    return events(page).get_by_role("listitem")


def choose(page: Page, what: str, option: str) -> None:
    events(page).locator("label", has_text=what).locator("select").select_option(label=option)


def test_events_appear_with_their_frames_as_they_happen(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url)
    first = entries(page).first
    frame = first.get_by_role("img")
    wait_until(lambda: frame.evaluate("image => image.naturalWidth > 0"), what="the best frame is there")
    expect(first).to_contain_text("digits")
    expect(first).to_contain_text("%")
    expect(events(page).get_by_text("Now", exact=True)).to_have_count(1)
    link = first.get_by_role("link")
    expect(link).not_to_have_attribute("href", link.get_attribute("href") or "")  # another event is the first one
    expect(page.get_by_role("region", name="Changes")).to_have_count(0)


def test_events_are_filtered_by_camera_view_and_label(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url)
    choose(page, "Camera", "old, door")
    expect(entries(page).first).to_contain_text("wren")
    expect(entries(page).first).to_contain_text("old, door")
    expect(entries(page).filter(has_text="robin")).to_have_count(0)
    choose(page, "Camera", "old")
    expect(entries(page).filter(has_text="robin")).to_have_count(4)
    choose(page, "Label", "robin")
    expect(entries(page).filter(has_text="wren")).to_have_count(0)
    expect(entries(page).filter(has_text="robin")).to_have_count(8)
    link = events(page).get_by_role("link", name="Download as CSV").get_attribute("href")
    assert link == "api/events.csv?camera=old&label=robin"
    assert len(agent.get(f"/{link}").text.splitlines()) == 1 + _STORED // 2 - 1
    choose(page, "Camera", "digits")
    expect(events(page)).to_contain_text("No such event.")
    choose(page, "Label", "All")
    expect(entries(page).first).to_contain_text("digits")


def test_older_events_are_loaded_until_there_are_no_more(agent: RunningAgent, look: Look) -> None:
    page = look(agent.url)
    choose(page, "Camera", "old")
    expect(entries(page)).to_have_count(8)
    older = events(page).get_by_role("button", name="Show older")
    for count in (58, 108, _STORED):
        older.click()
        expect(entries(page)).to_have_count(count)
    expect(older).to_have_count(0)
    expect(entries(page).last).to_contain_text("wren")
    expect(entries(page).nth(-2)).to_contain_text(_LABEL)  # as text
    expect(entries(page).last).to_contain_text("No picture")
    expect(entries(page).last).to_contain_text("5 seconds")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_events_fit_and_axe_finds_nothing_serious(agent: RunningAgent, look: Look, width: int, scheme: str) -> None:
    page = look(agent.url, viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=width == 360)
    choose(page, "Camera", "old, gate")
    for _ in range(2):
        events(page).get_by_role("button", name="Show older").click()
    expect(entries(page).filter(has_text=_LABEL)).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)
