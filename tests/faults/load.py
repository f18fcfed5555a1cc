"""Load: one client per model that uploads at a fixed rate, and a summary of all answers."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from agents.running_agent import wait_until
from end_to_end.material import digit_png

if TYPE_CHECKING:
    from types import TracebackType

    from agents.running_agent import RunningAgent
    from typing_extensions import Self

_LONGEST_S = 60  # several trials in turn, on a busy machine


@dataclass(slots=True)
class Answers:
    """The answers of one model. Only distinct ones are kept, so hours of them fit into memory.

    `versions` and `categories` have what each sha256 answered. `failures` has every answer that is not a Result and
    every broken connection.
    """

    count: Counter[str] = field(default_factory=Counter)
    versions: dict[str, set[str]] = field(default_factory=dict)
    categories: dict[str, set[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.count.total() + len(self.failures)

    @property
    def mixed_up(self) -> list[str]:
        """Every sha256 that answered with several versions, and every version that several files answered with."""
        files: dict[str, set[str]] = {}
        for sha256, versions in self.versions.items():
            for version in versions:
                files.setdefault(version, set()).add(sha256)
        return [
            *(f"{sha256[:12]} as {sorted(each)}" for sha256, each in self.versions.items() if len(each) > 1),
            *(f"version {version} of {sorted(each)}" for version, each in files.items() if len(each) > 1),
        ]

    @property
    def unsteady(self) -> set[str]:
        """Every sha256 that gave different answers to the same picture."""
        return {sha256 for sha256, each in self.categories.items() if len(each) > 1}

    def take(self, answer: httpx.Response) -> None:
        if answer.is_error:
            self.failures.append(f"{answer.status_code} {answer.text}")
            return
        result: dict[str, Any] = answer.json()
        sha256 = result["model"]["sha256"]
        self.versions.setdefault(sha256, set()).add(result["model"]["version"])
        self.categories.setdefault(sha256, set()).add(json.dumps(result["categories"]))
        self.count[sha256] += 1


class Load:
    """Uploads one picture `per_s` times per second to each of `models`, until `__exit__`."""

    def __init__(self, agent: RunningAgent, *models: str, per_s: float = 20) -> None:
        self._url = agent.url
        self._period_s = 1 / per_s
        self._over = threading.Event()
        self._answers = {model: Answers() for model in models}
        self._threads = [threading.Thread(target=self._upload_on, args=(model,)) for model in models]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, model: str) -> Answers:
        return self._answers[model]

    @property
    def total(self) -> int:
        return sum(answers.total for answers in self._answers.values())

    def stop(self) -> None:
        """Returns once the last answer has arrived."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, number: int, model: str) -> None:
        """Until `number` more uploads to `model` were answered, with a Result or an error."""
        answers = self._answers[model]
        enough = answers.total + number
        wait_until(
            lambda: answers.total >= enough, timeout_s=_LONGEST_S, what=f"{number} more uploads to {model} are answered"
        )

    def wait_for(self, sha256: str, model: str) -> None:
        answers = self._answers[model]
        wait_until(lambda: sha256 in answers.versions, timeout_s=_LONGEST_S, what=f"{sha256[:12]} answers for {model}")

    def _upload_on(self, model: str) -> None:
        path, answers, due_s = f"/predict?model={model}", self._answers[model], time.monotonic()
        with httpx.Client(base_url=self._url, timeout=20, verify=False, trust_env=False) as client:
            while not self._over.wait(due_s - time.monotonic()):
                due_s = max(due_s + self._period_s, time.monotonic())
                try:
                    answers.take(client.post(path, content=digit_png()))
                except httpx.HTTPError as error:
                    answers.failures.append(repr(error))
