"""More results than the outbox may hold or a slow broker accepts: bounds are kept, and losses are announced."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faults.archive import Archive
from faults.delivery import Delivery, up_to
from faults.link import Link
from faults.makers import PERSISTENT, agent_at, last_made, mqtt_of, settled, wait_until_connected
from faults.seeds import seed
from peers.mosquitto import Mosquitto

if TYPE_CHECKING:
    from types import TracebackType

    from agents.running_agent import RunningAgent
    from faults.figures import Figures
    from faults.scale import Scale
    from typing_extensions import Self

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(900)]

_MAX_BYTES = 1 << 20
_WINDOW = 20
_RSS_GROWTH_MB = 30
_BACKLOG_PER_S = 250
_PER_FRAME, _FRAMES_A_SEGMENT = 250, 40


class _Highest:
    """The highest value of `measure`, called every 50 ms between `__enter__` and `__exit__`."""

    def __init__(self, measure: object) -> None:
        self.value = 0
        self._measure = measure
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self.value = max(self.value, self._measure())  # type: ignore[operator]


def test_a_full_outbox_keeps_its_bound_and_announces_exactly_the_dropped_results(
    tmp_path: Path, figures: Figures, scale: Scale
) -> None:
    """It first holds results of an earlier run; then cameras make results at full speed."""
    outage_s = scale(short=4, full=90)
    outbox = tmp_path / "state" / "outbox"
    made = _seed_earlier(outbox, segments=scale(short=17, full=2))
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        Archive(broker.port) as archive,
        _Highest(lambda: _disk_usage(outbox)) as usage,
    ):
        broker.stop()
        bounds = {"max_bytes": _MAX_BYTES}
        with agent_at(broker.port, tmp_path, cameras=scale(short=1, full=2), per_s=1000, outbox=bounds) as agent:
            time.sleep(outage_s)
            made |= up_to(*last_made(agent))
            evicted = mqtt_of(agent)["dropped"]
            agent.end()
        broker.start()
        with agent_at(broker.port, tmp_path, cameras=0, outbox=bounds) as agent:
            made |= up_to(*last_made(agent))
            delivery = settled(agent, archive, made, timeout_s=120)
            agent.end()
    what = f"outbox of 1 MiB, {outage_s} s of results at full speed"
    figures(f"{what}: most bytes on the disk", "at most 1.00 MiB", f"{usage.value / (1 << 20):.2f} MiB")
    figures(f"{what}: missing results", "all announced", f"{len(delivery.lost)} of {delivery.count}")
    figures(f"{what}: missing and not announced", "0", str(len(delivery.undeclared)))
    figures(f"{what}: announced as missing but delivered", "0", str(len(delivery.wrongly_declared)))
    assert usage.value <= _MAX_BYTES
    assert len(delivery.lost) >= evicted > 0
    assert delivery.undeclared == set()
    assert delivery.flaws == {}
    assert {gap["cause"] for gap in delivery.gaps} == {"max_bytes"}


def test_100_000_waiting_results_keep_memory_and_the_window_bounded(
    tmp_path: Path, figures: Figures, scale: Scale
) -> None:
    slow_s, count = scale(short=6, full=60), 100_000
    outbox = tmp_path / "state" / "outbox"
    with Mosquitto(tmp_path, config=PERSISTENT) as broker, Archive(broker.port) as archive, Link(broker.port) as link:
        link.open()
        without_mb = _most_rss_mb(link, tmp_path, slow_s=2)
        made = _seed_backlog(outbox, count)
        link.published.clear()
        with agent_at(link.port, tmp_path, per_s=10) as agent, _Highest(lambda: _rss(agent)) as rss:
            wait_until_connected(agent)
            link.ack_delay_s = 0.02
            time.sleep(slow_s)
            slowly = len(link.published)
            if scale.full:
                link.ack_delay_s = 0
                made |= up_to(*last_made(agent))
                settled(agent, archive, made, timeout_s=2 * count / _BACKLOG_PER_S)
            link.ack_delay_s = 1  # fills the window of unacknowledged messages before the agent stops
            time.sleep(2)
            agent.end()
        delivery = Delivery.to(archive, made)
    growth_mb = rss.value / 1e6 - without_mb
    what = "100,000 waiting results, a broker that accepts 50/s"
    figures(f"{what}: unacknowledged messages", "at most 20", str(link.most_unacknowledged))
    figures(f"{what}: growth of memory (RSS)", "under 30 MB", f"{growth_mb:.1f} MB, up to {rss.value / 1e6:.0f} MB")
    assert slowly >= slow_s * 20
    assert link.most_unacknowledged <= _WINDOW
    assert growth_mb < _RSS_GROWTH_MB
    assert delivery.flaws == {}
    assert delivery.gaps == []
    if scale.full:
        figures(f"{what} and later all: lost results", "0", f"{len(delivery.lost)} of {delivery.count}")
        assert delivery.lost == set()


def _seed_earlier(outbox: Path, *, segments: int) -> dict[str, range]:
    """Segments of about the size that the agent makes if `max_bytes` is a MiB."""
    boot = seed(outbox, groups=10, per_group=6, bulk=1000).boot
    for number in range(1, segments):
        seed(outbox, groups=10, per_group=6, bulk=1000, boot=boot, first_seq=1 + number * 60)
    return up_to(boot, segments * 60)


def _seed_backlog(outbox: Path, count: int) -> dict[str, range]:
    per_segment = _PER_FRAME * _FRAMES_A_SEGMENT
    boot = seed(outbox, groups=_FRAMES_A_SEGMENT, per_group=_PER_FRAME).boot
    for first in range(1 + per_segment, count, per_segment):
        seed(outbox, groups=_FRAMES_A_SEGMENT, per_group=_PER_FRAME, boot=boot, first_seq=first)
    return up_to(boot, count)


def _most_rss_mb(link: Link, folder: Path, *, slow_s: float) -> float:
    """The peak memory of the same agent without a backlog."""
    with agent_at(link.port, folder, per_s=10) as agent, _Highest(lambda: _rss(agent)) as rss:
        wait_until_connected(agent)
        time.sleep(slow_s)
        agent.end()
    return rss.value / 1e6


def _disk_usage(folder: Path) -> int:
    """As du reports it."""
    return sum(_blocks(path) for path in folder.glob("*"))


def _blocks(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _rss(agent: RunningAgent) -> int:
    try:
        return int(Path(f"/proc/{agent.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0  # it has ended
