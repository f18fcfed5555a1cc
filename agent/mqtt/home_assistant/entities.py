"""Entities: the Home Assistant entities of a camera, a model and the device itself.

Each is a component of the discovery message, which discovery.py builds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

from agent.mqtt.message import topic_level
from agent.status import HealthState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from agent.classification import Spot

    Component = dict[str, Any]

NO_LABEL = "none"

_EXPIRE_AFTER_S = 120  # four intervals of `stats`
_MAX_STATE = 255  # characters of a state or a release summary
_MAX_OPTIONS_BYTES = 100_000  # repeated for every camera, and some brokers accept at most 1 MB per message

# Home Assistant strips the result of a template, and treats the word None as "unknown".
_LABEL = (
    f"{{% set label = (value_json.label or '')[:{_MAX_STATE}] | trim %}}"
    f"{{{{ '{NO_LABEL}' if label in ('', 'None') else label }}}}"
)
_SCORE = "{{ None if value_json.score is none else (value_json.score * 100) | round(1) }}"
_LIVE = "{{ 'online' if value in ('online', 'ended') else 'offline' }}"
_CONNECTED = "{{ 'ON' if value == 'online' else 'OFF' }}"
_THROTTLED = "{{ None if value_json.throttled is none else 'ON' if value_json.throttled else 'OFF' }}"
_EVENT = (
    "{% if value_json.view | default(none) == <view> %}"
    "{{ {'event_type': value_json.type, 'id': value_json.id, 'label': value_json.label, 'started_at':"
    " value_json.started_at, 'ended_at': value_json.ended_at, 'duration_s': value_json.duration_s, 'frame':"
    " value_json.frame} | tojson }}{% endif %}"
)
_UPDATE = (
    "{% set installed = value_json.serving.version if value_json.serving else 'none' %}"
    "{% set usable = value_json.versions | rejectattr('state', 'eq', 'rejected') | map(attribute='version') %}"
    "{% set rejection = value_json.rejection %}"
    "{{ {'installed_version': installed, 'latest_version': usable | map('int') | sort | map('string') | list | last"
    " | default(installed), 'in_progress': value_json.trying, 'release_summary':"
    f" (rejection.file ~ ': ' ~ rejection.reason)[:{_MAX_STATE}] if rejection else ''}} | tojson }}}}"
)


def view(
    spot: Spot, base: str, *, labels: Collection[str], shown: str | None, snapshots: bool, events: bool
) -> dict[str, Component]:
    """Unavailable while the camera is not live, except its events: they end when the camera is switched off."""
    title, topic = _title(*filter(None, spot)), f"{base}/{spot.topic}"
    while_live = _while_live(spot.camera, base)
    components = {
        "label": _label(title, f"{topic}/state", _options(labels, shown)) | while_live,
        "score": _score(title, f"{topic}/state") | while_live,
    }
    if snapshots:
        components["snapshot"] = _snapshot(title, f"{topic}/snapshot") | while_live
    if events:
        components["event"] = _event(spot, title, f"{base}/cameras/{spot.camera}/event")
    return components


def camera(name: str, base: str, *, is_judged: bool) -> dict[str, Component]:
    """Its connection and its switch, which are available while it is not live, too; and its health, if it is judged."""
    title, topic = _title(name), f"{base}/cameras/{name}"
    judged = {
        "health": _health(title, f"{topic}/health") | _while_live(name, base),
        "reference": _reference(title, f"{topic}/reference/set") | _while_live(name, base),
    }
    return {
        **(judged if is_judged else {}),
        "enabled": _switch(title, f"{topic}/enabled"),
        "connectivity": _connectivity(title, f"{topic}/status"),
        "fps": _frame_rate(name, title, f"{base}/stats"),
    }


def profile(base: str, choices: Sequence[str]) -> Component:
    """Which profile was chosen; the active one is an attribute."""
    topic = f"{base}/profile"
    return {
        "platform": "select",
        "name": "Profile",
        "entity_category": "config",
        "state_topic": topic,
        "value_template": "{{ value_json.chosen }}",
        "json_attributes_topic": topic,
        "json_attributes_template": "{{ {'active': value_json.active} | tojson }}",
        "command_topic": f"{topic}/set",
        "options": list(choices),
        "qos": 1,
    }


def _while_live(camera: str, base: str) -> Component:
    status = f"{base}/cameras/{camera}/status"
    return {
        "availability": [{"topic": f"{base}/status"}, {"topic": status, "value_template": _LIVE}],
        "availability_mode": "all",
    }


def model_update(model: str, base: str) -> Component:
    return {
        "platform": "update",
        "name": f"Model {model}",
        "title": model,
        "entity_category": "diagnostic",
        "state_topic": f"{base}/models/{topic_level(model)}",
        "value_template": _UPDATE,
    }


def health(base: str, *, thermometer: bool, throttle: bool) -> dict[str, Component]:
    stats = f"{base}/stats"
    latency = "{{ value_json.latency_ms.p95 }}"
    memory = "{{ (value_json.rss_bytes / 1048576) | round(1) }}"
    messages = "{{ value_json.outbox.messages }}"
    components = {
        "latency": _measurement(
            stats, "Inference latency p95", latency, device_class="duration", unit_of_measurement="ms"
        ),
        "memory": _measurement(stats, "Memory", memory, device_class="data_size", unit_of_measurement="MiB"),
        "outbox": _measurement(stats, "Outbox messages", messages, unit_of_measurement="messages")
        | {"json_attributes_topic": stats, "json_attributes_template": "{{ value_json.outbox | tojson }}"},
    }
    if thermometer:
        celsius = "{{ value_json.temperature_celsius }}"
        components["temperature"] = _measurement(
            stats, "Temperature", celsius, device_class="temperature", unit_of_measurement="°C"
        )
    if throttle:
        components["throttling"] = {
            "platform": "binary_sensor",
            "name": "Throttling",
            "device_class": "problem",
            "value_template": _THROTTLED,
            **_from(stats),
        }
    return components


def _label(title: str, state: str, options: list[str] | None) -> Component:
    return {
        "platform": "sensor",
        "name": f"{title} label",
        "state_topic": state,
        "value_template": _LABEL,
        "json_attributes_topic": state,
        **({"device_class": "enum", "options": options} if options else {}),
    }


def _score(title: str, state: str) -> Component:
    return {
        "platform": "sensor",
        "name": f"{title} score",
        "state_topic": state,
        "value_template": _SCORE,
        "unit_of_measurement": "%",
        "state_class": "measurement",
    }


def _snapshot(title: str, topic: str) -> Component:
    return {"platform": "image", "name": f"{title} snapshot", "image_topic": topic, "content_type": "image/jpeg"}


def _event(spot: Spot, title: str, topic: str) -> Component:
    """Home Assistant ignores what the template makes empty: the events of the other views."""
    view = "none" if spot.view is None else f"'{spot.view}'"
    return {
        "platform": "event",
        "name": f"{title} event",
        "state_topic": topic,
        "event_types": ["begin", "update", "end"],
        "value_template": _EVENT.replace("<view>", view),
        "qos": 1,
    }


def _switch(title: str, topic: str) -> Component:
    return {
        "platform": "switch",
        "name": f"{title} enabled",
        "entity_category": "config",  # otherwise "turn off everything in the garden" would turn off its camera too
        "state_topic": topic,
        "command_topic": f"{topic}/set",
        "payload_on": "ON",
        "payload_off": "OFF",
        "qos": 1,
    }


def _health(title: str, topic: str) -> Component:
    return {
        "platform": "sensor",
        "name": f"{title} health",
        "entity_category": "diagnostic",
        "device_class": "enum",
        "options": list(get_args(HealthState)),
        "state_topic": topic,
    }


def _reference(title: str, topic: str) -> Component:
    return {
        "platform": "button",
        "name": f"{title} reference picture",
        "entity_category": "config",
        "command_topic": topic,
        "payload_press": "TAKE",
        "qos": 1,
    }


def _connectivity(title: str, status: str) -> Component:
    return {
        "platform": "binary_sensor",
        "name": f"{title} connectivity",
        "entity_category": "diagnostic",
        "device_class": "connectivity",
        "state_topic": status,
        "value_template": _CONNECTED,
    }


def _frame_rate(camera: str, title: str, stats: str) -> Component:
    template = f"{{{{ value_json.frames_per_s.get('{camera}') }}}}"
    return _measurement(stats, f"{title} frame rate", template, unit_of_measurement="fps")


def _measurement(stats: str, name: str, template: str, **unit: str) -> Component:
    return {
        "platform": "sensor",
        "name": name,
        "state_class": "measurement",
        "value_template": template,
        **unit,
        **_from(stats),
    }


def _from(stats: str) -> Component:
    return {"state_topic": stats, "expire_after": _EXPIRE_AFTER_S, "entity_category": "diagnostic"}


def _options(labels: Collection[str], shown: str | None) -> list[str] | None:
    """The states that _LABEL can render. None, which allows any text, if there are too many or none is known yet."""
    texts = dict.fromkeys(label[:_MAX_STATE].strip() for label in (*labels, shown or ""))
    options = [text for text in texts if text not in ("", "None", NO_LABEL)] + [NO_LABEL]
    few = sum(len(option.encode(errors="replace")) + 3 for option in options) <= _MAX_OPTIONS_BYTES
    return options if labels and few else None


def _title(*names: str) -> str:
    words = " ".join(re.sub(r"[_-]+", " ", name).strip() or name for name in names)
    return words[0].upper() + words[1:]
