"""Reads the PromQL expressions in deploy/monitoring, and the metrics and labels that they use."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"

_METRIC = re.compile(r"\b(edge_agent_\w+|process_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
_PROMETHEUS_LABELS = {"job", "instance"}


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return document


def panel_expressions() -> list[str]:
    """With Grafana's variables replaced, as Prometheus receives them."""
    targets = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    return [target.replace("$__rate_interval", "1m").replace("$instance", ".*") for target in targets]


def all_expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + panel_expressions()


def selections(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each metric with its label matchers; the value is empty unless the operator is = or =~."""
    for metric, matchers in _METRIC.findall(expression):
        asked = {label: value if equal[0] == "=" else "" for label, equal, value in _MATCHER.findall(matchers)}
        yield metric, {label: value for label, value in asked.items() if label not in _PROMETHEUS_LABELS}


def grouping_labels(expression: str) -> set[str]:
    groups = re.findall(r"\bby \(([^)]*)\)", expression)
    return {label.strip() for group in groups for label in group.split(",")} - _PROMETHEUS_LABELS
