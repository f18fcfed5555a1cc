"""Mixed load: clients of every kind at the same time, good, bad, slow and broken, and what each was answered."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import cv2
from agents.running_agent import ROOT
from end_to_end.abuse import SlowConnections, damaged_images, send_body
from end_to_end.material import digit_png, model_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from agents.running_agent import RunningAgent
    from typing_extensions import Self

_LARGE = 5 << 20
_JSON = {"Content-Type": "application/json"}
_FORM = {"Content-Type": "multipart/form-data; boundary=x"}
_BAD_FORMS = (b"", b"--x\r\nno colon\r\n\r\n", b"--x\r\n" * 2000, b'--x\r\nContent-Disposition: form-data; name="file"')


class Client(Protocol):
    """Sends one request, or a wave of them; returns the codes of the answers."""

    def __call__(self) -> list[int]: ...


class MixedLoad:
    """Runs every client in its own thread until `__exit__`, each with a pause after its turn.

    `unexpected` has the answers that the kind of client must not get, and what went wrong in its thread.
    """

    def __init__(self, agent: RunningAgent, token: str) -> None:
        self.codes: dict[str, Counter[int]] = {}
        self.unexpected: list[str] = []
        self._over = threading.Event()
        clients = _Clients(agent, {"Authorization": f"Bearer {token}"})
        self._threads = [threading.Thread(target=self._run, args=each) for each in clients.all()]

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

    def _run(self, name: str, client: Client, allowed: set[int], pause_s: float) -> None:
        codes = self.codes[name] = Counter()
        while not self._over.wait(pause_s):
            try:
                answered = client()
            except Exception as error:  # noqa: BLE001  (reported by the test)
                self.unexpected.append(f"{name}: {error!r}")
                continue
            codes.update(answered)
            self.unexpected += [f"{name}: {code}" for code in answered if code not in allowed]


class _Clients:
    def __init__(self, agent: RunningAgent, token: dict[str, str]) -> None:
        self._agent = agent
        self._token = token
        self._images = itertools.cycle(_images())
        self._damaged = damaged_images(random.Random(3))
        self._bad_forms = itertools.cycle(_BAD_FORMS)
        self._pages = itertools.cycle(
            [*("/metrics", "/readyz", "/healthz", "/v1/models", "/api/models/digits", "/openapi.json", "/nowhere")]
        )
        self._drops = itertools.cycle([model_file(1), model_file(2)])
        self._choices = itertools.cycle(["pin", "unpin", "rollback"])

    def all(self) -> Iterator[tuple[str, Client, set[int], float]]:
        """Name, client, the codes that it may get, and its pause in seconds."""
        busy = {200, 503}
        yield "raw upload", self._raw, busy, 0.05
        yield "form", self._form, busy, 0.05
        yield "batch", self._batch, busy, 0.3
        yield "status", self._page, {200, 404}, 0.1
        yield "wrong token", self._wrong_token, {401, 429}, 0.5
        yield "damaged image", self._damaged_image, {200, 413, 415, 422, 503}, 0.1
        yield "malformed form", self._malformed_form, {400}, 0.2
        yield "large body", self._large_bodies, {400, 413, 415}, 3
        yield "broken off", self._broken_off, set(), 0.2
        yield "slow connections", self._slow, set(), 1
        yield "new model", self._drop, set(), 10
        yield "choice of a version", self._choose, {200, 404, 409}, 7

    def _raw(self) -> list[int]:
        return [self._send("POST", "/predict", next(self._images))]

    def _form(self) -> list[int]:
        return [self._send("POST", "/predict", _form("file", [next(self._images)]), _FORM)]

    def _batch(self) -> list[int]:
        return [self._send("POST", "/batch_predict", _form("files", [next(self._images) for _ in range(8)]), _FORM)]

    def _page(self) -> list[int]:
        page = next(self._pages)
        return [self._send("GET", page), self._send("HEAD", page)]

    def _wrong_token(self) -> list[int]:
        return [self._send("POST", "/predict", digit_png(), {"Authorization": "Bearer edge_wrong"})]

    def _damaged_image(self) -> list[int]:
        return [self._send("POST", "/predict", next(self._damaged))]

    def _malformed_form(self) -> list[int]:
        return [self._send("POST", "/predict", next(self._bad_forms), _FORM)]

    def _large_bodies(self) -> list[int]:
        lines = [f"{name}: {value}" for name, value in self._token.items()]
        kinds = ("raw, chunked", "form, chunked", "gzip", "small gzip that expands", "nested JSON")
        return [send_body(self._agent, kind, 4 * _LARGE, lines) for kind in kinds]

    def _broken_off(self) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", self._agent.port, timeout=30)
        connection.putrequest("POST", "/predict")
        connection.putheader("Authorization", self._token["Authorization"])
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(bytes(100_000))
        connection.close()
        return []

    def _slow(self) -> list[int]:
        """Waits until the agent has closed all of them."""
        slow, turn = SlowConnections(self._agent, silent=20, dripping=10), threading.Event()
        while slow.open:
            slow.drip()
            turn.wait(0.2)
        return []

    def _drop(self) -> list[int]:
        self._agent.drop(next(self._drops))
        return []

    def _choose(self) -> list[int]:
        choice = next(self._choices)
        body = json.dumps({"version": 1} if choice == "pin" else {}).encode()
        return [self._send("POST", f"/api/models/digits/{choice}", body, _JSON)]

    def _send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._agent.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, {**self._token, **(headers or {})})
            response = connection.getresponse()
            response.read()
            return response.status


def _images() -> list[bytes]:
    """The same photo in several sizes and formats."""
    photo = cv2.imread(str(ROOT / "demo" / "digit.jpg"))
    sizes = ((64, 64), (640, 427), (1920, 1080))
    return [cv2.imencode(suffix, cv2.resize(photo, size))[1].tobytes() for size in sizes for suffix in (".jpg", ".png")]


def _form(field: str, files: list[bytes]) -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n'.encode()
    return b"".join(head + file + b"\r\n" for file in files) + b"--x--\r\n"
