from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.mqtt.link.endpoint import Endpoint
from agent.mqtt.link.restrictions import Restrictions
from agent.mqtt.message import TOO_LARGE, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

_BASE = "edge-agent/test"


@pytest.mark.parametrize(
    ("topics", "reported"),
    [
        (["models/birds", "models/cars"], 1),
        (["cameras/a/result", "cameras/b/result"], 1),
        (["cameras/a/classification/birds", "cameras/b/classification/cars"], 1),
        (["cameras/models/state", "models/state"], 2),
        (["info", "stats"], 2),
    ],
)
def test_same_topic_of_several_models_or_cameras_is_reported_once(
    caplog: pytest.LogCaptureFixture, topics: Sequence[str], reported: int
) -> None:
    will = Message(f"{_BASE}/status", b"offline", retain=True)
    restrictions = Restrictions(Endpoint("localhost", 1883, None, None, "test", will), base=_BASE)
    for topic in topics:
        restrictions.refused(f"{_BASE}/{topic}", 500, TOO_LARGE, limit=350)
        restrictions.shortened(f"{_BASE}/{topic}", 500, limit=350)
    assert len(caplog.records) == 2 * reported
