"""Checks dashboard.json against what Grafana expects, without running Grafana."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from monitoring.expressions import dashboard

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def test_the_dashboard_can_be_imported_next_to_others() -> None:
    document = dashboard()
    assert "id" not in document  # Grafana assigns it
    assert document["schemaVersion"] >= 39
    assert (document["title"], document["uid"]) == ("edge-agent", "edge-agent")
    ids = [panel["id"] for panel in panels()]
    assert ids == sorted(set(ids))


def test_the_dashboard_has_variables_for_prometheus_and_the_boards() -> None:
    source, instance = dashboard()["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert instance["datasource"] == _SOURCE
    assert instance["query"]["query"] == "label_values(edge_agent_build_info, instance)"
    assert instance["multi"]
    assert instance["includeAll"]


def test_every_panel_queries_the_selected_prometheus_and_boards() -> None:
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == _SOURCE, panel["title"]
        assert [target["refId"] for target in panel["targets"]] == ["A", "B"][: len(panel["targets"])]
        assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"]), panel["title"]


def test_no_panels_overlap() -> None:
    places = [panel["gridPos"] for panel in panels()]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    side_by_side = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    stacked = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (side_by_side or stacked)
