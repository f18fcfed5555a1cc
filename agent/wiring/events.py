"""Events: builds the recorder and its store from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.events.recorder import EventRecorder
from agent.events.store import EventStore

if TYPE_CHECKING:
    from agent.config.sections import Config
    from agent.listeners import Listeners


def build_events(config: Config, listeners: Listeners) -> tuple[EventStore, EventRecorder] | tuple[None, None]:
    """The recorder hears `listeners` and announces the events to them. None if events are off."""
    events = config.events
    if not events.enabled:
        return None, None
    store = EventStore(
        config.device.state_folder / "events" / "events.db",
        max_events=events.max_events,
        max_bytes=events.max_mb * 1_000_000,
    )
    recorder = EventRecorder(store, listener=listeners, frames=events.frames)
    listeners.add(recorder)
    return store, recorder
