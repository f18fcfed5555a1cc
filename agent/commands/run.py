"""The command `edge-agent run`: the service itself."""

from __future__ import annotations

import os

from agent.commands.options import ConfigFile


def run(config: ConfigFile = None) -> None:
    """Serve models, classify cameras and uploads, publish results, until SIGTERM or Ctrl-C."""
    # Before anything imports it: its warning at each try to open a camera that is away helps nobody.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    from agent import logs
    from agent.config.load import load_config

    settings = load_config(config)
    logs.set_up(form=settings.logging.format, level=settings.logging.level, device=settings.device.id)
    from agent import service

    service.run(settings)
