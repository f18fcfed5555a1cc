"""Uploads: one picture uploaded repeatedly in the background of a test."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Uploads:
    """Several clients, each in its own thread; keeps every answer until `__exit__`."""

    def __init__(self, agent: RunningAgent, *, model: str, clients: int = 1) -> None:
        self._url = agent.url
        self._path = f"/predict?model={model}"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._upload_on) for _ in range(clients)]
        self._answers: list[httpx.Response] = []
        self._broken: list[str] = []

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
    def count(self) -> int:
        return len(self._answers)

    @property
    def failures(self) -> list[str]:
        """Every answer that is not a Result, and every broken connection."""
        refused = [f"{answer.status_code} {answer.text}" for answer in list(self._answers) if answer.is_error]
        return refused + self._broken

    @property
    def served(self) -> dict[str, set[str]]:
        """The versions of each sha256 that answered, in order; each set should have one element."""
        versions: dict[str, set[str]] = {}
        for model in self._models():
            versions.setdefault(model["sha256"], set()).add(model["version"])
        return versions

    def wait_for_more(self, number: int) -> None:
        """Until `number` more uploads were answered."""
        enough = self.count + number
        wait_until(lambda: self.count >= enough, what=f"{number} more uploads are answered")

    def wait_for(self, sha256: str) -> None:
        wait_until(lambda: sha256 in self.served, what=f"{sha256[:12]} answers")

    def wait_for_code(self, code: int) -> None:
        wait_until(lambda: self._answers[-1].status_code == code, what=f"an upload is answered with {code}")

    def _models(self) -> list[dict[str, Any]]:
        return [answer.json()["model"] for answer in list(self._answers) if answer.is_success]

    def _upload_on(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10, verify=False, trust_env=False) as client:
            while not self._over.is_set():
                self._upload(client)

    def _upload(self, client: httpx.Client) -> None:
        try:
            self._answers.append(client.post(self._path, content=digit_png()))
        except httpx.HTTPError as error:
            self._broken.append(repr(error))
