"""Scrape: reads the agent's /metrics with Prometheus' own parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from agents.running_agent import RunningAgent


def scraped(agent: RunningAgent, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each sample with this name and these `labels`."""
    families = text_string_to_metric_families(agent.get("/metrics").text)
    return [
        (sample.labels, sample.value)
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
