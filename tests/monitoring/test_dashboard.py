"""The dashboard as Grafana wants it; no Grafana is here to import it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from monitoring.expressions import dashboard

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def test_it_can_be_imported_beside_others() -> None:
    document = dashboard()
    assert "id" not in document  # which is Grafana's to give
    assert document["schemaVersion"] >= 39
    assert (document["title"], document["uid"]) == ("edge-agent", "edge-agent")
    ids = [panel["id"] for panel in panels()]
    assert ids == sorted(set(ids))


def test_whoever_imports_it_chooses_prometheus_and_boards() -> None:
    source, instance = dashboard()["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert instance["datasource"] == _SOURCE
    assert instance["query"]["query"] == "label_values(edge_agent_build_info, instance)"
    assert instance["multi"]
    assert instance["includeAll"]


def test_every_panel_asks_the_chosen_prometheus_for_the_chosen_boards() -> None:
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == _SOURCE, panel["title"]
        assert [target["refId"] for target in panel["targets"]] == ["A", "B"][: len(panel["targets"])]
        assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"]), panel["title"]


def test_every_panel_has_a_place_of_its_own() -> None:
    places = [panel["gridPos"] for panel in panels()]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or above)
