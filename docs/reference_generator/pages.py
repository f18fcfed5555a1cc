"""Pages: the generated files, and the function that makes each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docs.reference_generator.command_line import command_line_page
from docs.reference_generator.configuration import configuration_page
from docs.reference_generator.example import example_configuration
from docs.reference_generator.metrics import metrics_page

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[2]
PAGES: dict[str, Callable[[], str]] = {
    "configs/agent.yaml": example_configuration,
    "docs/reference/configuration.md": configuration_page,
    "docs/reference/command-line.md": command_line_page,
    "docs/reference/metrics.md": metrics_page,
}
