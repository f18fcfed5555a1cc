"""The command `edge-agent run`: runs the service."""

from __future__ import annotations

import os

from agent.commands.options import ConfigFile


def run(config: ConfigFile = None) -> None:
    """Serve models, classify camera frames and uploads, and publish the results until SIGTERM or Ctrl-C."""
    # Must be set before OpenCV is imported: it warns at each attempt to open a camera that is unplugged.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    from agent import logs
    from agent.config.load import load_config

    settings = load_config(config)
    logs.set_up(form=settings.logging.format, level=settings.logging.level, device=settings.device.id)
    from agent import service

    service.run(settings, load=lambda: load_config(config))
