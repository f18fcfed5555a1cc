"""600 MiB bodies, 1,200 slow connections and 2,000 damaged images: the agent's memory, and a healthy client's times."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, RunningAgent, wait_until
from end_to_end.abuse import (
    BODIES,
    SlowConnections,
    damaged_images,
    peak_rss_mb,
    percentile_99_s,
    send_body,
    upload_times_s,
)
from end_to_end.material import digit_png
from peers.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.figures import Figures
    from faults.scale import Scale


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """With the default deadlines."""
    with RunningAgent(tmp_path) as running:
        running.drop(DIGITS.read_bytes())
        wait_until(lambda: running.post("/predict", content=digit_png()).is_success, what="the model serves")
        yield running


def test_huge_bodies_are_refused_without_being_kept(agent: RunningAgent, scale: Scale, figures: Figures) -> None:
    size = scale(short=100, full=600) << 20
    for kind in BODIES:  # what the first request of each kind loads is not a body that is kept
        send_body(agent, kind, size // 4)
    with peak_rss_mb(agent) as growth_mb:
        codes = [send_body(agent, kind, size) for kind in BODIES]
        figures(f"HTTP bodies of {size >> 20} MiB: growth of memory (RSS)", "under 20 MB", f"{growth_mb():.1f} MB")
        assert codes == [415 if kind == "gzip" else 413 for kind in BODIES]
        assert growth_mb() < 20


@pytest.fixture
def encrypted_agent(tmp_path: Path) -> Iterator[RunningAgent]:
    certificate = Authority(tmp_path).sign("agent")
    files = {"tls_cert": str(certificate.cert_file), "tls_key": str(certificate.key_file)}
    with RunningAgent(tmp_path, http=files) as running:
        running.drop(DIGITS.read_bytes())
        wait_until(lambda: running.post("/predict", content=digit_png()).is_success, what="the model serves")
        yield running


@pytest.mark.alone
@pytest.mark.parametrize(("which", "kind"), [("agent", "HTTP"), ("encrypted_agent", "HTTPS")])
def test_slow_connections_are_closed_and_delay_no_other_client(
    which: str, kind: str, request: pytest.FixtureRequest, figures: Figures
) -> None:
    agent: RunningAgent = request.getfixturevalue(which)
    seconds = 8
    end_s = time.monotonic() + seconds
    own_s = percentile_99_s(upload_times_s(agent, digit_png(), until=lambda: time.monotonic() > end_s))
    slow = SlowConnections(agent, silent=1000, dripping=200)
    begun_s, dripped_s = time.monotonic(), 0.0

    def are_closed() -> bool:
        nonlocal dripped_s
        if time.monotonic() > dripped_s + 0.5:
            dripped_s = time.monotonic()
            slow.drip()
        return not slow.open or time.monotonic() > begun_s + 2 * seconds

    with_slow_s = percentile_99_s(upload_times_s(agent, digit_png(), until=are_closed))
    took_s = time.monotonic() - begun_s
    name = f"1,000 silent and 200 dripping {kind} connections"
    figures(f"{name}: time until all are closed", "10 s", f"{took_s:.1f} s")
    figures(f"{name}: p99 of another client", "under twice its own", f"{with_slow_s / own_s:.2f} times")
    assert took_s < 10.5
    assert with_slow_s < 2 * own_s


def test_damaged_images_get_only_the_documented_codes(agent: RunningAgent, scale: Scale, figures: Figures) -> None:
    count = scale(short=500, full=2000)
    with peak_rss_mb(agent) as growth_mb:
        images = itertools.islice(damaged_images(random.Random(1)), count)
        codes = Counter(agent.post("/predict", content=image).status_code for image in images)
        figures(f"{count} damaged images: growth of memory (RSS)", "at most 150 MB", f"{growth_mb():.0f} MB")
        assert codes.keys() <= {200, 413, 415, 422}, codes
        assert growth_mb() < 150
