from __future__ import annotations

import inspect
from typing import Any

import pytest

from agent.listeners import Listener, Listeners

EVENTS = [name for name in vars(Listener) if not name.startswith("_")]


class Recorder:
    """Records every event."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self.heard.append((name, arguments, named))


@pytest.mark.parametrize("event", EVENTS)
def test_listeners_pass_every_event_to_each_listener(event: str) -> None:
    first, second = Recorder(), Recorder()
    listeners = Listeners([first])  # type: ignore[list-item]  # it has every method
    listeners.add(second)  # type: ignore[arg-type]
    parameters = list(inspect.signature(getattr(Listener, event)).parameters.values())[1:]
    arguments = tuple(each.name for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY)
    named = {each.name: each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    getattr(listeners, event)(*arguments, **named)
    assert first.heard == second.heard == [(event, arguments, named)]
