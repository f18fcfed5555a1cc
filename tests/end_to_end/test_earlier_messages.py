"""A configuration without views behaves as before there were any."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from end_to_end.earlier_messages import RECORDED, messages

if TYPE_CHECKING:
    from pathlib import Path

_DISCOVERY = "homeassistant/device/test/config"


@pytest.mark.mosquitto
def test_messages_of_a_camera_without_views_are_those_of_earlier_releases(tmp_path: Path) -> None:
    now, before = messages(tmp_path), json.loads(RECORDED.read_text(encoding="utf-8"))
    entities, known = _components(now.pop(_DISCOVERY)), _components(before.pop(_DISCOVERY))
    assert {topic: now.get(topic) for topic in before} == before
    assert {key: entities.get(key) for key in known} == known


def _components(payloads: list[str]) -> dict[str, Any]:
    """Of the last message."""
    components: dict[str, Any] = json.loads(payloads[-1].replace(": ...", ': "..."'))["components"]
    return components
