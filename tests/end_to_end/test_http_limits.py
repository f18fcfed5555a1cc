"""Abuse costs the agent neither memory nor other clients; tests/faults/test_http_limits.py has the long form."""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, RunningAgent, wait_until
from end_to_end.abuse import (
    BODIES,
    SlowConnections,
    damaged_images,
    peak_rss_mb,
    png_with_chunk_of_3_gb,
    send_body,
    upload_times_s,
)
from end_to_end.material import digit_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path_factory.mktemp("agent"), http={"header_timeout_s": 1}) as running:
        running.drop(DIGITS.read_bytes())
        wait_until(lambda: running.post("/predict", content=digit_png()).is_success, what="the model serves")
        yield running
        assert "Traceback" not in running.log


@pytest.mark.parametrize("kind", BODIES)
def test_large_body_is_refused_without_being_kept(agent: RunningAgent, kind: str) -> None:
    send_body(agent, kind, 20 << 20)
    with peak_rss_mb(agent) as growth_mb:
        assert send_body(agent, kind, 100 << 20) == (415 if kind == "gzip" else 413)
        assert growth_mb() < 20


def test_slow_connections_are_closed_while_uploads_are_answered(agent: RunningAgent) -> None:
    slow, begun_s = SlowConnections(agent, silent=600, dripping=50), time.monotonic()

    def are_closed() -> bool:
        slow.drip()
        assert time.monotonic() < begun_s + 5, f"{slow.open} are open"
        return not slow.open

    assert upload_times_s(agent, digit_png(), until=are_closed)


def test_damaged_images_get_only_the_documented_codes(agent: RunningAgent) -> None:
    with peak_rss_mb(agent) as growth_mb:
        images = [*itertools.islice(damaged_images(random.Random(17)), 150), png_with_chunk_of_3_gb()]
        codes = {agent.post("/predict", content=image).status_code for image in images}
        assert codes <= {200, 413, 415, 422}
        assert growth_mb() < 150


@pytest.mark.assets
def test_photos_get_only_the_documented_codes(agent: RunningAgent, assets: Path) -> None:
    with peak_rss_mb(agent) as growth_mb:
        photos = [path for path in sorted((assets / "photos").rglob("*")) if path.is_file()]
        codes = {agent.post("/predict", content=photo.read_bytes()).status_code for photo in photos}
        assert codes == {200, 413, 415, 422}
        assert growth_mb() < 150
