"""Checks messages against the rules of discovery; tests/home_assistant uses the real Home Assistant."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from events.made import an_event

from agent.classification import ModelIdentity, Spot, StableState
from agent.mqtt.home_assistant.discovery import (
    BIRTH_TOPIC,
    DeviceFacts,
    ViewEntities,
    discovery,
    is_birth,
    topic_of,
)
from agent.mqtt.message import checksum, topic_level
from agent.status import ModelStatus, ProfileStatus, Rejection, VersionStatus

_BASE = "edge-agent/pi-1"
_FRONT = ViewEntities(Spot("front"), ("robin", "wren"), snapshots=True, is_judged=True)
_BIRDS = ModelIdentity("birds", 7, "0" * 64)

_COMMON = {"platform", "name", "unique_id", "default_entity_id", "entity_category", "availability", "availability_mode"}
_READING = {"state_topic", "value_template", "device_class", "expire_after"}
_ATTRIBUTES = {"json_attributes_topic", "json_attributes_template"}
_ALLOWED = {
    "sensor": _COMMON | _READING | _ATTRIBUTES | {"options", "state_class", "unit_of_measurement"},
    "binary_sensor": _COMMON | _READING,
    "image": _COMMON | {"image_topic", "content_type"},
    "select": _COMMON | _ATTRIBUTES | {"state_topic", "value_template", "command_topic", "options", "qos"},
    "switch": _COMMON | {"state_topic", "command_topic", "payload_on", "payload_off", "qos"},
    "update": _COMMON | {"state_topic", "value_template", "title"},
    "event": _COMMON | {"state_topic", "value_template", "event_types", "qos"},
    "button": _COMMON | {"command_topic", "payload_press", "qos"},
}
_REQUIRED = {
    "sensor": {"state_topic"},
    "binary_sensor": {"state_topic"},
    "image": {"image_topic"},
    "select": {"command_topic", "options"},
    "switch": {"command_topic"},
    "update": {"state_topic"},
    "event": {"state_topic", "event_types"},
    "button": {"command_topic"},
}
_UNITS: dict[str | None, set[str]] = {
    "temperature": {"°C"},
    "duration": {"ms"},
    "data_size": {"MiB"},
    None: {"%", "fps", "messages"},
}
_CLASSES: dict[str, set[str | None]] = {
    "sensor": {None, "enum", "temperature", "duration", "data_size"},
    "binary_sensor": {"connectivity", "problem"},
}
_OF_VIEW = ("label", "score", "snapshot", "event")
_STATS = {
    "at": "2026-11-24T10:00:00.000Z",
    "uptime_s": 60.0,
    "frames_per_s": {"front": 4.9},
    "uploads_per_s": 0.1,
    "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
    "temperature_celsius": 51.2,
    "throttled": False,
    "outbox": {"messages": 0, "bytes": 0, "evicted": 0, "trouble": None},
    "rss_bytes": 90_000_000,
}


def _discovery(**options: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_payload(**options))
    return document


def _payload(**options: Any) -> bytes:
    """`options` are arguments of discovery() and DeviceFacts."""
    names = ("views", "models", "former")
    shown: dict[str, Any] = {"views": [_FRONT], "models": ["birds"]}
    shown |= {name: options.pop(name) for name in names if name in options}
    facts: dict[str, Any] = {
        "thermometer": True,
        "throttle": True,
        "events": True,
        "url": "http://pi-1:8501",
        "profiles": ("auto", "none", "night"),
    }
    return discovery(DeviceFacts("pi-1", _BASE, "0.1.0", **(facts | options)), **shown).payload


def _components(**options: Any) -> dict[str, dict[str, Any]]:
    components: dict[str, dict[str, Any]] = _discovery(**options)["components"]
    return components


def _label_options(*labels: str, shown: str | None = None) -> list[str] | None:
    camera = ViewEntities(Spot("front"), labels, snapshots=False, shown=shown)
    options: list[str] | None = _components(views=[camera])["camera_front_label"].get("options")
    return options


def _real_payloads() -> dict[str, Any]:
    version = VersionStatus(7, "0" * 64, "serving", "birds.tflite", admitted_ns=0)
    rejection = Rejection("birds.tflite", "1000 labels for 1001 outputs", at_ns=0)
    model = ModelStatus("birds", _BIRDS, rejection=rejection, versions=(version,))
    return {
        f"{_BASE}/cameras/front/state": StableState("robin", 0.93, 0, _BIRDS).to_json(),
        f"{_BASE}/cameras/front/event": an_event(spot=Spot("front", "door")).to_json(),
        f"{_BASE}/models/birds": model.to_json(),
        f"{_BASE}/profile": ProfileStatus("night", "auto", ("night",)).to_json(),
        f"{_BASE}/stats": _STATS,
    }


def test_discovery_message_is_retained_on_the_topic_that_home_assistant_reads() -> None:
    facts = DeviceFacts("pi-1", _BASE, "1", thermometer=False, throttle=False)
    message = discovery(facts, views=[], models=[])
    assert message.topic == "homeassistant/device/pi-1/config"
    assert message.retain


@pytest.mark.parametrize("device", ["pi.1", "pi_1", "pi-1", "a" * 300, "Ünïcode", "\udcff"])
def test_device_topic_is_unique_and_has_only_characters_that_home_assistant_allows(device: str) -> None:
    others = {"pi.1", "pi_1", "pi-1", "pi+1", "a" * 300, "a" * 301, "Ünïcode", "\udcff"} - {device}
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic_of(device))
    assert topic_of(device) not in {topic_of(other) for other in others}


def test_device_and_origin_are_described_with_the_keys_of_the_schema() -> None:
    document = _discovery(hardware="Raspberry Pi 4 Model B")
    assert document.keys() == {"device", "origin", "availability", "components"}
    assert document["device"] == {
        "identifiers": ["edge-agent:pi-1"],
        "name": "pi-1",
        "manufacturer": "edge-agent",
        "model": "Raspberry Pi 4 Model B",
        "sw_version": "0.1.0",
        "configuration_url": "http://pi-1:8501",
    }
    assert document["origin"] == {"name": "edge-agent", "sw_version": "0.1.0"}
    assert document["availability"] == [{"topic": f"{_BASE}/status"}]
    assert "configuration_url" not in _discovery(url=None)["device"]


def test_every_component_follows_the_rules_of_its_platform() -> None:
    components = _components()
    for component in components.values():
        platform = component["platform"]
        assert component.keys() <= _ALLOWED[platform], component
        assert component.keys() >= _REQUIRED[platform] | {"unique_id", "name"}, component
        assert component.get("entity_category") in (None, "config", "diagnostic")
        assert component.get("device_class") in _CLASSES.get(platform, {None})
        assert component["default_entity_id"].startswith(f"{platform}.pi_1_")
        assert re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", component["default_entity_id"])
    assert len({component["unique_id"] for component in components.values()}) == len(components) == 16


def test_every_sensor_follows_the_rules_of_its_device_class() -> None:
    for component in _components().values():
        if component["platform"] == "sensor":
            enum = component.get("device_class") == "enum"
            assert enum == ("options" in component)
            assert enum == ("state_class" not in component)
            if not enum:
                assert component["unit_of_measurement"] in _UNITS[component.get("device_class")]
                assert component["state_class"] == "measurement"


def test_topics_are_below_the_base_and_templates_use_existing_fields() -> None:
    payloads = _real_payloads()
    for component in _components().values():
        for key, value in component.items():
            if key.endswith("_topic"):
                assert value.startswith(f"{_BASE}/")
                assert not set("+#") & set(value)
            elif key.endswith("_template") and "value_json" in value:
                for path in re.findall(r"value_json((?:\.\w+)+)", value):
                    found = payloads[component["state_topic"]]
                    for step in path.removesuffix(".get").split(".")[1:]:
                        found = found[step]


def test_label_is_unavailable_while_the_camera_is_lost_but_its_switch_is_not() -> None:
    components = _components()
    for what in ("label", "score", "snapshot", "health", "reference"):
        component = components[f"camera_front_{what}"]
        assert [entry["topic"] for entry in component["availability"]] == [
            f"{_BASE}/status",
            f"{_BASE}/cameras/front/status",
        ]
        assert component["availability_mode"] == "all"
    for what in ("enabled", "connectivity", "event"):
        assert "availability" not in components[f"camera_front_{what}"]


def test_health_expires_when_the_device_stops_reporting() -> None:
    of_stats = [component for component in _components().values() if component.get("state_topic") == f"{_BASE}/stats"]
    assert len(of_stats) == 6
    assert {component["expire_after"] for component in of_stats} == {120}
    assert {component["entity_category"] for component in of_stats} == {"diagnostic"}


def test_missing_sensors_and_snapshots_have_no_components() -> None:
    keys = _components(
        thermometer=False, throttle=False, events=False, views=[ViewEntities(Spot("front"), (), snapshots=False)]
    ).keys()
    assert not keys & {"temperature", "throttling", "camera_front_snapshot", "camera_front_event"}


def test_camera_whose_health_is_not_judged_has_no_component_for_it() -> None:
    keys = _components(views=[ViewEntities(Spot("front"), (), snapshots=False)]).keys()
    assert not keys & {"camera_front_health", "camera_front_reference"}


def test_options_of_the_health_are_what_its_topic_can_have() -> None:
    component = _components()["camera_front_health"]
    assert component["options"] == ["ok", "covered", "blurred", "moved"]
    assert component["state_topic"] == f"{_BASE}/cameras/front/health"


def test_names_are_readable_and_entity_ids_are_derived_from_them() -> None:
    component = _components(views=[ViewEntities(Spot("front-door"), (), snapshots=False)])["camera_front-door_label"]
    assert component["name"] == "Front door label"
    assert component["default_entity_id"] == "sensor.pi_1_front_door_label"


def test_similar_names_get_different_components() -> None:
    names = ["front.door", "front_door", "front-door"]
    cameras = [ViewEntities(Spot(name), ("robin",), snapshots=True) for name in names]
    components = _components(views=cameras, models=["ü", "u", "a b", "a+b", "a\udcff", "a" * 300, "a" * 301])
    assert len(components) == 3 * 7 + 7 + 5 + 1
    assert len({component["unique_id"] for component in components.values()}) == len(components)
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,200}", key) for key in components)


def test_views_and_cameras_with_similar_names_get_different_components() -> None:
    spots = [
        ("a", "b_view_c"),
        ("a_view_b", "c"),
        ("a_view_b_view_c", None),
        ("a_b", "c"),
        ("a", "b_c"),
        ("a_b_c", None),
    ]
    views = [ViewEntities(Spot(*names), ("robin",), snapshots=False) for names in spots]
    labels = {each.get("state_topic") for each in _components(views=views).values() if each["name"].endswith("label")}
    assert labels == {f"{_BASE}/{view.spot.topic}/state" for view in views}


def test_model_with_an_unsafe_name_uses_the_topic_on_which_it_is_published() -> None:
    topics = {component.get("state_topic") for component in _components(models=["a+b/#\x00", "a_b___"]).values()}
    assert f"{_BASE}/models/a_b___" in topics
    assert f"{_BASE}/models/{topic_level('a+b/#' + chr(0))}" in topics - {f"{_BASE}/models/a_b___"}


def test_named_views_have_entities_of_their_own_and_share_the_switch_of_their_camera() -> None:
    views = [ViewEntities(Spot("front", name), ("robin",), snapshots=True) for name in ("door", "gate")]
    components = _components(views=views)
    door, gate = (f"view_front_{view}_{checksum(f'front/{view}')}" for view in ("door", "gate"))
    assert {key for key in components if key.startswith(("camera_", "view_"))} == {
        *(f"{view}_{what}" for view in (door, gate) for what in _OF_VIEW),
        *(f"camera_front_{what}" for what in ("enabled", "connectivity", "fps")),
    }
    event = components[f"{door}_event"]
    assert (event["name"], event["state_topic"]) == ("Front door event", f"{_BASE}/cameras/front/event")
    label = components[f"{door}_label"]
    assert (label["name"], label["state_topic"]) == ("Front door label", f"{_BASE}/cameras/front/views/door/state")
    assert label["availability"][1]["topic"] == f"{_BASE}/cameras/front/status"


def test_options_are_the_labels_and_none() -> None:
    assert _label_options("robin", "wren") == ["robin", "wren", "none"]


def test_options_follow_the_labels_and_keep_the_label_in_the_retained_state() -> None:
    assert _label_options("cat", "dog", shown="robin") == ["cat", "dog", "robin", "none"]
    assert _label_options("cat", "dog", shown="dog") == ["cat", "dog", "none"]


def test_options_are_what_the_template_renders_for_the_labels() -> None:
    long = "a" * 300
    labels = ("robin", " robin ", long, long + "b", "", "None", "none", "\ud800")
    assert _label_options(*labels) == ["robin", "a" * 255, "?", "none"]


def test_unknown_labels_leave_the_sensor_without_options() -> None:
    label = _components(views=[ViewEntities(Spot("front"), (), snapshots=False, shown="robin")])["camera_front_label"]
    assert not label.keys() & {"options", "device_class"}


def test_options_of_a_thousand_labels_have_a_bounded_size() -> None:
    labels = [f"{number}: some kind of a bird" for number in range(1001)]
    options = _label_options(*labels)
    assert options is not None
    assert len(options) == 1002
    assert len(_payload(views=[ViewEntities(Spot("front"), tuple(labels), snapshots=True)])) < 40_000


def test_labels_too_large_for_a_broker_leave_the_sensor_without_options() -> None:
    assert _label_options(*(f"{number}: {'a' * 200}" for number in range(1001))) is None


def test_profiles_can_be_chosen_if_there_are_any() -> None:
    select = _components()["profile"]
    assert (select["options"], select["command_topic"]) == (["auto", "none", "night"], f"{_BASE}/profile/set")
    assert "profile" not in _components(profiles=())
    facts = DeviceFacts("pi-1", _BASE, "1", thermometer=False, throttle=False, profiles=("auto", "none", "night"))
    short = discovery(facts, views=[_FRONT], models=[]).short
    assert short is not None
    assert json.loads(short)["components"]["profile"]["options"] == ["auto", "none", "night"]


def test_removed_component_has_only_its_platform() -> None:
    former = _payload(views=[_FRONT, ViewEntities(Spot("back"), ("robin",), snapshots=True)], models=["birds", "cars"])
    components = _components(former=former)
    assert components["camera_back_label"] == {"platform": "sensor"}
    assert components["camera_back_snapshot"] == {"platform": "image"}
    assert components["camera_back_enabled"] == {"platform": "switch"}
    assert components["camera_back_connectivity"] == {"platform": "binary_sensor"}
    assert components["model_cars"] == {"platform": "update"}
    assert components["camera_front_label"]["options"] == ["robin", "wren", "none"]


def test_removed_component_stays_removed_until_it_is_added_again() -> None:
    gone = _payload(views=[], former=_payload())
    assert _components(views=[], former=gone)["camera_front_label"] == {"platform": "sensor"}
    assert _components(former=gone) == _components()


@pytest.mark.parametrize(
    "former",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[1]",
        b'{"components": 5}',
        b'{"components": ["sensor"]}',
        b'{"components": {"a": null, "b": {"platform": "siren"}, "c d": {"platform": "sensor"}}}',
        b'{"components": {"a": {"platform": ["sensor"]}, "": {"platform": "sensor"}}}',
        b'{"components": ' + b"[" * 100_000,
        b'{"components": {"a": {"platform": "sensor"}}}' + b" " * 4_000_000,
        b"1" * 5000,
    ],
)
def test_former_message_of_another_origin_removes_nothing(former: bytes) -> None:
    assert _components(former=former) == _components()


def test_former_message_adds_only_platforms_of_a_bounded_number_of_components() -> None:
    hostile = {f"x{number}": {"platform": "switch", "command_topic": "alarm/off"} for number in range(10_000)}
    added = {
        key: component
        for key, component in _components(former=json.dumps({"components": hostile}).encode()).items()
        if key.startswith("x")
    }
    assert len(added) == 200
    assert all(component == {"platform": "switch"} for component in added.values())


def test_birth_is_recognized_only_when_home_assistant_comes_online() -> None:
    assert BIRTH_TOPIC == "homeassistant/status"
    assert is_birth("homeassistant/status", b"online")
    assert not is_birth("homeassistant/status", b"offline")
    assert not is_birth("other/status", b"online")
