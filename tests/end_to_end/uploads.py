"""Uploads: one picture uploaded repeatedly in the background of a test."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


_PAUSE_S = 0.02  # leaves CPU time to the agent, which is testing a model at the same time


class Uploads:
    """Several clients, each in its own thread."""

    def __init__(self, agent: RunningAgent, *, model: str, clients: int = 1) -> None:
        self._url = agent.url
        self._path = f"/predict?model={model}"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._upload_on) for _ in range(clients)]
        self._code = 0
        self._answered = 0
        self._refused: list[str] = []
        self._broken: list[str] = []
        self._served: dict[str, set[str]] = {}
        self._lock = threading.Lock()

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
        return self._answered

    @property
    def failures(self) -> list[str]:
        """Every answer that is not a Result, and every broken connection."""
        return self._refused + self._broken

    @property
    def served(self) -> dict[str, set[str]]:
        """The versions of each sha256 that answered, in order; each set should have one element."""
        return self._served

    def wait_for_more(self, number: int) -> None:
        """Until `number` more uploads were answered."""
        enough = self.count + number
        wait_until(lambda: self.count >= enough, what=f"{number} more uploads are answered")

    def wait_for(self, sha256: str) -> None:
        wait_until(lambda: sha256 in self.served, what=f"{sha256[:12]} answers")

    def wait_for_code(self, code: int) -> None:
        wait_until(lambda: self._code == code, what=f"an upload is answered with {code}")

    def _upload_on(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10, verify=False, trust_env=False) as client:
            while not self._over.wait(_PAUSE_S):
                self._upload(client)

    def _upload(self, client: httpx.Client) -> None:
        try:
            answer = client.post(self._path, content=digit_png())
        except httpx.HTTPError as error:
            self._broken.append(repr(error))
            return
        with self._lock:
            self._keep(answer)

    def _keep(self, answer: httpx.Response) -> None:
        if answer.is_error:
            self._refused.append(f"{answer.status_code} {answer.text}")
        if answer.is_success:
            model = answer.json()["model"]
            self._served.setdefault(model["sha256"], set()).add(model["version"])
        self._code = answer.status_code
        self._answered += 1
