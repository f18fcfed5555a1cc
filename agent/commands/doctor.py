"""The command `edge-agent doctor`: finds problems of this device and how to fix them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from agent.commands.options import ConfigFile, Json, TokenFile, access_token
from agent.host.terminal import print_finding, print_json

if TYPE_CHECKING:
    from agent.doctor.finding import Finding


def doctor(config: ConfigFile = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Check this device, from the runtime to the broker, and print ok, warning or fault with a remedy for each check.

    Without --config, the installed configuration is used if there is one. Exits with 1 if there is a fault.
    """
    from agent.doctor.examination import examine
    from agent.doctor.unit import INSTALLED

    findings: list[Finding] = []
    for finding in examine(INSTALLED.stand_in(config), token=access_token(token_file)):
        findings.append(finding)
        if not as_json:  # print each at once: a check may wait for a broker
            print_finding(finding.level, finding.about, finding.fact, finding.remedy)
    if as_json:
        print_json([finding.to_json() for finding in findings])
    if any(finding.level == "fault" for finding in findings):
        raise typer.Exit(1)
