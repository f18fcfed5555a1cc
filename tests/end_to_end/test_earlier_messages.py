"""A configuration without views behaves as before there were any."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from end_to_end.earlier_messages import RECORDED, messages

if TYPE_CHECKING:
    from pathlib import Path

_DISCOVERY = "homeassistant/device/test/config"


@pytest.mark.long
@pytest.mark.mosquitto
def test_messages_of_a_camera_without_views_are_those_of_earlier_releases(tmp_path: Path) -> None:
    now, before = messages(tmp_path), json.loads(RECORDED.read_text(encoding="utf-8"))
    entities, known = _components(now.pop(_DISCOVERY)), _components(before.pop(_DISCOVERY))
    for topic, payloads in before.items():
        sent = now.get(topic, [])
        assert [_earlier(new, old) for new, old in zip(sent, payloads, strict=True)] == payloads, topic
    assert {key: entities.get(key) for key in known} == known


def _earlier(payload: str, before: str) -> str:
    """The payload without the fields that `before` did not have; the order of the others counts."""
    if not before.startswith("{"):
        return payload
    now, then = (json.loads(text.replace(": ...", ': "..."')) for text in (payload, before))
    return json.dumps(_reduced(now, then)).replace(': "..."', ": ...")


def _reduced(now: Any, then: Any) -> Any:
    if isinstance(now, dict) and isinstance(then, dict):
        return {key: _reduced(value, then[key]) for key, value in now.items() if key in then}
    if isinstance(now, list) and isinstance(then, list):
        return [_reduced(new, old) for new, old in zip(now, then, strict=True)]
    return now


def _components(payloads: list[str]) -> dict[str, Any]:
    """Of the last message."""
    components: dict[str, Any] = json.loads(payloads[-1].replace(": ...", ': "..."'))["components"]
    return components
