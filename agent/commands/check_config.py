"""The command `edge-agent check-config`: checks a configuration file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agent.commands.options import Json
from agent.host.terminal import print_json


def check_config(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML).", readable=False)],
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema for editors instead; the file is not read.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a configuration file without starting anything.

    If root checks the installed file, it must also be readable for the service, with every file that it names.
    """
    from agent.config.load import load_config, model_settings
    from agent.config.sections import Config
    from agent.doctor.access import denied_files
    from agent.doctor.unit import INSTALLED
    from agent.errors import ConfigError
    from agent.sources.source import missing_program
    from agent.wiring.access import build_access, why_closed, why_no_https
    from agent.wiring.broker import broker_endpoint
    from agent.wiring.rpc import why_no_grpc

    if schema:
        print_json(Config.model_json_schema())
        return
    INSTALLED.stand_in(config)
    settings = load_config(config)
    model_settings(settings)
    broker_endpoint(settings).check()
    if config == INSTALLED.config:
        for key, denied in denied_files(config, settings, INSTALLED.account()):
            raise ConfigError(f"{key}: {denied.fact} {denied.remedy}")
    troubles = [why_no_https(settings), why_closed(settings, build_access(settings)), why_no_grpc(settings)]
    for name, camera in settings.cameras.items():
        if missing := missing_program(camera.origin):
            troubles.append(f"cameras.{name}: {missing}")
    for trouble in filter(None, troubles):
        print(f"Warning: {trouble}", file=sys.stderr)
    if as_json:
        print_json(settings.model_dump(mode="json"))
    else:
        count = len(settings.cameras)
        cameras = "1 camera" if count == 1 else f"{count} cameras"
        print(f"{config} is valid: {cameras}, models in {settings.models.folder}.")
