"""Home Assistant discovery: one retained message that describes this device and all its entities.

Uses the device-based MQTT discovery of Home Assistant 2024.11 and later, where a component describes an entity:
home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.mqtt.home_assistant import entities
from agent.mqtt.message import Message, checksum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.classification import Spot

    Component = dict[str, Any]

BIRTH_TOPIC = "homeassistant/status"

_MAX_FORMER_BYTES = 4_000_000
_MAX_REMOVED = 200
_PLATFORMS = frozenset({"binary_sensor", "button", "event", "image", "select", "sensor", "switch", "update"})
_MAX_TOKEN = 100  # characters of a name in a topic or a key
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{_MAX_TOKEN}}}")
_UNSAFE_IN_TOKEN = re.compile("[^A-Za-z0-9_-]")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")


@dataclass(frozen=True, slots=True)
class ViewEntities:
    """`labels` are the labels of the view's model; empty while none serves.

    `shown` is the label in the view's retained state. Home Assistant rejects a state that is not among the options,
    so the options must keep this label until a swapped model has reported its first one. `is_judged`: whether its
    camera has a health.
    """

    spot: Spot
    labels: tuple[str, ...]
    snapshots: bool
    shown: str | None = None
    is_judged: bool = False


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """`base` is the prefix of every topic, `url` the device's web page, `hardware` the name of the board.

    `profiles` are those that a person may choose; none if the configuration has none.
    """

    device: str
    base: str
    version: str
    thermometer: bool
    throttle: bool
    events: bool = False
    url: str | None = None
    hardware: str | None = None
    profiles: tuple[str, ...] = ()


def discovery(
    facts: DeviceFacts, *, views: Sequence[ViewEntities], models: Sequence[str], former: bytes | None = None
) -> Message:
    """`former` is the payload that the broker retains for this topic; components missing since are removed."""
    device, base = facts.device, facts.base
    components = entities.health(base, thermometer=facts.thermometer, throttle=facts.throttle)
    for view in views:
        camera = f"camera_{_token(view.spot.camera)}"
        # The token of a view always has a checksum, since both names may contain any word between them.
        prefix = camera if view.spot.view is None else f"view_{_token(f'{view.spot.camera}/{view.spot.view}')}"
        components |= {f"{prefix}_{what}": component for what, component in _of_view(view, facts).items()}
        of_camera = entities.camera(view.spot.camera, base, is_judged=view.is_judged)
        components |= {f"{camera}_{what}": component for what, component in of_camera.items()}
    for model in models:
        components[f"model_{_token(model)}"] = entities.model_update(model, base)
    if facts.profiles:
        components["profile"] = entities.profile(base, facts.profiles)
    for key, component in components.items():
        component["unique_id"] = f"edge-agent:{device}:{key}"
        component["default_entity_id"] = _entity_id(component["platform"], device, component["name"])
    document = {
        "device": _device(facts),
        "origin": {"name": "edge-agent", "sw_version": facts.version},
        "availability": [{"topic": f"{base}/status"}],
        "components": {**components, **_removed(former, components)},
    }
    return Message(topic_of(device), _encoded(document), retain=True, short=_encoded(_without_options(document)))


def _without_options(document: dict[str, Any]) -> dict[str, Any]:
    """The labels are most of the message. Without them, a label's sensor accepts any text."""
    components = {
        key: component
        if component["platform"] == "select"
        else {name: value for name, value in component.items() if name != "options" and value != "enum"}
        for key, component in document["components"].items()
    }
    return {**document, "components": components}


def _encoded(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")  # a file name need not be valid Unicode


def topic_of(device: str) -> str:
    return f"homeassistant/device/{_token(device)}/config"


def is_birth(topic: str, payload: bytes) -> bool:
    """Whether Home Assistant has started or reconnected to the broker."""
    return topic == BIRTH_TOPIC and payload == b"online"


def _of_view(view: ViewEntities, facts: DeviceFacts) -> dict[str, Component]:
    return entities.view(
        view.spot, facts.base, labels=view.labels, shown=view.shown, snapshots=view.snapshots, events=facts.events
    )


def _device(facts: DeviceFacts) -> dict[str, Any]:
    return {
        "identifiers": [f"edge-agent:{facts.device}"],
        "name": facts.device,
        "manufacturer": "edge-agent",
        "model": facts.hardware or "Image classifier",
        "sw_version": facts.version,
        **({"configuration_url": facts.url} if facts.url else {}),
    }


def _removed(former: bytes | None, present: dict[str, Component]) -> dict[str, Component]:
    """Home Assistant removes a component whose description has nothing but its platform."""
    if former is None or len(former) > _MAX_FORMER_BYTES:
        return {}
    try:
        components = json.loads(former)["components"].items()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    removed: dict[str, Component] = {}
    for key, component in components:
        platform = component.get("platform") if isinstance(component, dict) else None
        if key not in present and _KEY.fullmatch(key) and isinstance(platform, str) and platform in _PLATFORMS:
            removed[key] = {"platform": platform}
    return dict(list(removed.items())[:_MAX_REMOVED])


def _token(name: str) -> str:
    """Returns `name` in the characters that Home Assistant allows in a topic; unique for each name."""
    if _TOKEN.fullmatch(name):
        return name
    return f"{_UNSAFE_IN_TOKEN.sub('_', name)[:_MAX_TOKEN]}_{checksum(name)}"


def _entity_id(platform: str, device: str, name: str) -> str:
    """The id that Home Assistant itself would derive, such as `sensor.pi_1_front_label`."""
    plain = unicodedata.normalize("NFKD", f"{device} {name}").encode("ascii", "ignore").decode().lower()
    return f"{platform}.{re.sub('[^a-z0-9]+', '_', plain).strip('_')}"
