"""Makers: agents that make numbered results at a fixed rate, from pictures in a folder or from uploads."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file
from faults.delivery import Delivery
from faults.scrape import scraped

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from faults.archive import Archive
    from typing_extensions import Self

PER_S = 50
PERSISTENT = "persistence true\nautosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0"  # of mosquitto

_CLIENTS = 4


def agent_at(
    port: int,
    folder: Path,
    *,
    cameras: int = 1,
    per_s: float = PER_S,
    environment: dict[str, str] | None = None,
    under: Sequence[str] = (),
    **mqtt: Any,
) -> RunningAgent:
    """Each camera repeats the same picture, `per_s` times per second."""
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    (pictures / "digit.png").write_bytes(digit_png())
    camera = {"source": str(pictures), "loop": True, "model": "digits", "max_fps": per_s}
    agent = RunningAgent(
        folder,
        environment=environment,
        under=under,
        mqtt={"enabled": True, "host": "127.0.0.1", "port": port, **mqtt},
        cameras={f"camera{number}": camera for number in range(cameras)},
    )
    agent.drop(model_file(1), checksum=True)
    return agent


def last_made(agent: RunningAgent) -> tuple[str, int]:
    """Boot and seq of a new result; all results before it were made too."""
    result = agent.post("/predict", content=digit_png()).json()
    return result["boot"], result["seq"]


def metric(agent: RunningAgent, name: str) -> float:
    ((_, value),) = scraped(agent, f"edge_agent_{name}")
    return value


def mqtt_of(agent: RunningAgent) -> Mapping[str, Any]:
    """The agent's report on its MQTT connection and its outbox."""
    mqtt: Mapping[str, Any] = agent.json("/readyz")["mqtt"]
    return mqtt


def wait_until_connected(agent: RunningAgent, *, timeout_s: float = 20) -> None:
    wait_until(lambda: metric(agent, "mqtt_connected") == 1, timeout_s=timeout_s, what="the agent is connected")


def settled(
    agent: RunningAgent, archive: Archive, made: Mapping[str, Collection[int]], *, timeout_s: float
) -> Delivery:
    """The delivery once every result has arrived or is announced as lost and the outbox is empty, or at the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while Delivery.to(archive, made).undeclared or metric(agent, "outbox_messages") > 1:
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.1)
    return Delivery.to(archive, made)


@dataclass(frozen=True, slots=True)
class Made:
    """`at_s` is when the answer arrived (time.monotonic()), `sha256` the model's, `label` the best category's."""

    boot: str
    seq: int
    at_s: float
    sha256: str
    label: str


class Reachable(Protocol):
    """A server at this port of this machine."""

    port: int


class NumberedUploads:
    """Uploads `per_s` times per second until the agent ends or `__exit__`; keeps every answer."""

    def __init__(self, agent: Reachable, *, per_s: float = PER_S) -> None:
        self._agent = agent
        self._per_s = per_s
        self._over = threading.Event()
        self._made: list[Made] = []
        self._threads = [threading.Thread(target=self._upload_on, args=(number,)) for number in range(_CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def made(self) -> list[Made]:
        return list(self._made)

    def _upload_on(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._agent.port, timeout=10)
        due_s = time.monotonic() + number / self._per_s
        try:
            while not self._over.wait(max(0.0, due_s - time.monotonic())):
                due_s += _CLIENTS / self._per_s
                connection.request("POST", "/predict", digit_png())
                answer = json.loads(connection.getresponse().read())
                if "seq" in answer:  # otherwise the agent is stopping
                    self._made.append(_made(answer))
        except (OSError, http.client.HTTPException):
            return  # the agent has ended
        finally:
            connection.close()


def _made(answer: dict[str, Any]) -> Made:
    label = answer["categories"][0]["label"]
    return Made(answer["boot"], answer["seq"], time.monotonic(), answer["model"]["sha256"], label)
