"""Spots: the views of cameras, as the configuration gives them."""

from __future__ import annotations

from agent.classification import Spot


def unnamed(*cameras: str) -> dict[str, tuple[Spot, ...]]:
    """Cameras without named views."""
    return {camera: (Spot(camera),) for camera in cameras}
