"""Steady load: uploads at a fixed rate that do not wait for answers; latency counts from when an upload was due."""

from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from agents.running_agent import RunningAgent
    from typing_extensions import Self

_AT_ONCE = 64  # more than the agent's queue holds, so that the agent refuses the excess and not this client
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """`due_s` is of time.monotonic(). Either `sha256` of the answering version or `failure` is set."""

    due_s: float
    took_ms: float
    sha256: str | None
    failure: str | None


class SteadyLoad:
    """Uploads one picture to one model `per_s` times per second, until `__exit__`, which waits for the last answers."""

    def __init__(self, agent: RunningAgent, *, model: str, picture: bytes, per_s: float) -> None:
        self._agent = agent
        self._path = f"/predict?model={model}"
        self._picture = picture
        self._period_s = 1 / per_s
        self._over = threading.Event()
        self._answers: list[Answer] = []
        self._pacer = threading.Thread(target=self._keep_pace)

    def __enter__(self) -> Self:
        self._pacer.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._pacer.join()

    @property
    def answers(self) -> list[Answer]:
        """In order of arrival."""
        return list(self._answers)

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.failure]

    def serves(self, sha256: str) -> bool:
        """Whether this version gave the last answer."""
        return bool(self._answers) and self._answers[-1].sha256 == sha256

    def _keep_pace(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as clients:
            due_s = time.monotonic()
            while not self._over.wait(max(0.0, due_s - time.monotonic())):
                clients.submit(self._upload, due_s)
                due_s += self._period_s

    def _upload(self, due_s: float) -> None:
        sha256 = failure = None
        try:
            sha256 = self._answer()
        except (OSError, http.client.HTTPException, _RefusedError) as error:
            failure = str(error) or repr(error)
        self._answers.append(Answer(due_s, (time.monotonic() - due_s) * 1e3, sha256, failure))

    def _answer(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._agent.port, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", self._path, self._picture)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise _RefusedError(f"{response.status} {content.decode(errors='replace')}")
        return str(json.loads(content)["model"]["sha256"])


class _RefusedError(Exception):
    """The answer is not a Result."""
