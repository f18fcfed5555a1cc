"""Differences: which keys of two configurations differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config.sections import Config


def keys_that_need_a_restart(before: Config, after: Config) -> list[str]:
    """Such as mqtt.host. Cameras and profiles need none."""
    sections = [section for section in type(before).model_fields if section not in ("cameras", "profiles")]
    return [
        f"{section}.{key}"
        for section in sections
        for key in type(getattr(before, section)).model_fields
        if getattr(getattr(before, section), key) != getattr(getattr(after, section), key)
    ]
