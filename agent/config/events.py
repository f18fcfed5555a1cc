"""EventsSection: the keys for recorded events."""

from __future__ import annotations

from pydantic import Field

from agent.config.section import Section


class EventsSection(Section):
    enabled: bool = Field(
        default=False,
        description="Record when a label began and ended, with its best frame, in the state folder. The page and "
        "`/api/events` show them, and each is announced over MQTT.",
    )
    frames: bool = Field(
        default=True,
        description="Store the best frame of each event, a JPEG of what the view shows. Without it, events have no "
        "picture.",
    )
    max_events: int = Field(
        default=100_000, ge=1, le=1_000_000, description="Maximum number of events; the oldest are removed."
    )
    max_mb: int = Field(
        default=100,
        ge=1,
        description="Maximum size of the events on the disk, in MB. The oldest frames are removed first, down to a "
        "quarter of it, then the oldest events. 100,000 events need 75 MB without frames.",
    )
