"""Load: a client for each of several models, at a steady pace, and what all their answers had in common."""

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

_LONGEST_S = 60  # one trial after another, on a busy machine


@dataclass(slots=True)
class Answers:
    """Of one model. Hours of them fit into memory: only what differs is kept.

    `versions` has those of each sha256, `categories` what each sha256 answered, `failures` every answer that is
    no Result and every connection that broke.
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
        """Every sha256 that answered under several versions, and every version under which several files did."""
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
        """Every sha256 that answered the same picture in several ways."""
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
    """Uploads one picture `per_s` times a second to each of `models`, until `__exit__`."""

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
        """Returns once the last answer is there."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, number: int, model: str) -> None:
        """Until so many uploads more to `model` were answered, with a Result or without."""
        answers = self._answers[model]
        enough = answers.total + number
        wait_until(
            lambda: answers.total >= enough, timeout_s=_LONGEST_S, what=f"{number} uploads more to {model} are answered"
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
