"""Kills the agent (-9) repeatedly while the broker is stopped: only the newest results may be lost."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import wait_until
from faults.archive import Archive
from faults.makers import PERSISTENT, NumberedUploads, agent_at, last_made, settled
from peers.mosquitto import Mosquitto

if TYPE_CHECKING:
    from pathlib import Path

    from agents.running_agent import RunningAgent
    from faults.delivery import Delivery
    from faults.figures import Figures
    from faults.makers import Made
    from faults.scale import Scale

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(400)]

_WINDOW_S = {"spill": 2.0, "group": 0.1}
_SOONEST_S, _LATEST_S = 0.1, 4.0


@pytest.mark.parametrize("durability", _WINDOW_S)
def test_a_killed_agent_loses_only_its_newest_results_and_announces_the_loss(
    tmp_path: Path, figures: Figures, scale: Scale, durability: str
) -> None:
    kills = scale(short=3, full=20)
    chance = random.Random(5)
    lives_s = [_SOONEST_S, *(chance.uniform(_SOONEST_S, _LATEST_S) for _ in range(kills - 1))]
    made: list[Made] = []
    killed_s: dict[str, float] = {}
    with Mosquitto(tmp_path, config=PERSISTENT) as broker, Archive(broker.port) as archive:
        broker.stop()
        with agent_at(broker.port, tmp_path, cameras=0, durability=durability) as agent:
            for life_s in lives_s:
                if not agent.is_running():
                    agent.restart()
                uploads, at_s = _killed_after(agent, life_s)
                made += uploads
                killed_s |= {each.boot: at_s for each in uploads}
            broker.start()
            agent.restart()
            delivery = _drained(agent, archive, made)
            agent.end()
    places = {(each.boot, each.seq): each for each in made}
    ages_s = [killed_s[place[0]] - places[place].at_s for place in delivery.lost]
    lost_per_kill = Counter(boot for boot, _ in delivery.lost)
    what = f"{kills} times kill -9 of the agent while the broker is stopped, {durability}"
    window_s = _WINDOW_S[durability]
    too_old = [age_s for age_s in ages_s if age_s > window_s]
    figures(f"{what}: lost results older than {window_s:g} s", "0", f"{len(too_old)} of {delivery.count}")
    figures(
        f"{what}: lost results per kill",
        f"at most those of {window_s:g} s",
        f"{len(delivery.lost) / kills:.1f} on average, at most {max(lost_per_kill.values(), default=0)}; "
        f"the oldest was {max(ages_s, default=0.0):.2f} s old",
    )
    figures(f"{what}: lost and not announced", "0", str(len(delivery.undeclared)))
    assert len(killed_s) == kills
    assert max(ages_s, default=0.0) <= window_s * scale(short=2, full=1)  # the short form runs on busy machines too
    assert delivery.undeclared == set()
    assert delivery.flaws == {}


def _killed_after(agent: RunningAgent, life_s: float) -> tuple[list[Made], float]:
    """Its answers, and the time of the kill."""
    with NumberedUploads(agent) as uploads:
        wait_until(lambda: uploads.made, what="results are made")
        time.sleep(life_s)
        killed_s = time.monotonic()
        agent.process.kill()
        agent.process.wait()
    return uploads.made, killed_s


def _drained(agent: RunningAgent, archive: Archive, made: list[Made]) -> Delivery:
    seqs: dict[str, list[int]] = defaultdict(list)
    for each in made:
        seqs[each.boot].append(each.seq)
    delivery = settled(agent, archive, seqs, timeout_s=60)
    last = last_made(agent)
    wait_until(lambda: archive.has(*last), what="a new result arrives")
    return delivery
