"""Scrape: what the agent's /metrics says, as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from agents.running_agent import RunningAgent


def scraped(agent: RunningAgent, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each sample of that name that has those `labels`."""
    families = text_string_to_metric_families(agent.get("/metrics").text)
    return [
        (sample.labels, sample.value)
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
