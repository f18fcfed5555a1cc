"""Collector: keeps frames about which a model is not sure, as material for the training of a better one."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from agent.errors import ImageError
from agent.host.access import explain
from agent.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from agent.classification import Result, Spot
    from agent.config.collect import CollectSection
    from agent.config.view import ViewSection
    from agent.listeners import Best, Picture

log = logging.getLogger(__name__)

_DAY_S = 24 * 3600.0
_RETRY_S = 60.0
_MAX_SIDE, _QUALITY = 1280, 95  # pixels; good enough to train with


class Folder(Protocol):
    """Blocks; raises OSError."""

    @property
    def folder(self) -> Path: ...
    def newest_s(self, spot: Spot) -> float | None: ...
    def add(self, spot: Spot, jpeg: bytes, document: dict[str, Any], *, max_bytes: int) -> None: ...


class Collector(Listener):
    """On the event loop's thread. Writes in a thread, one frame at a time: a disk that hangs takes only one thread.

    At least 24 h / `per_day` lie between two frames of a view, so that they are from all hours of the day.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        views: Callable[[], Mapping[Spot, ViewSection]],
        tasks: TaskGroup,
        monotonic_s: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        """`views` returns the configuration of each view."""
        self._folder = folder
        self._views = views
        self._tasks = tasks
        self._monotonic_s = monotonic_s
        self._unix_s = unix_s
        self._wanted: dict[Spot, CollectSection] = {}
        self._kept_s: dict[Spot, float] = {}  # when the newest frame of each view was kept
        self._not_before_s = 0.0
        self.is_writing = False
        self.trouble: str | None = None

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:  # noqa: ARG002  (Listener's)
        sections = {spot: view.collect for spot, view in self._views().items()}
        self._wanted = {spot: section for spot, section in sections.items() if section and section.per_day}
        if not self._wanted:
            self.trouble = None

    def looked(self, result: Result, best: Best, picture: Picture) -> None:
        wanted = self._wanted.get(result.spot)
        if wanted is None or self.is_writing:
            return
        due_s = max(self._not_before_s, self._kept_s.get(result.spot, -_DAY_S) + _gap_s(wanted))
        if self._monotonic_s() < due_s or (category := best()) is None:
            return
        lowest, highest = wanted.between
        if lowest <= category.score <= highest:
            self.is_writing = True
            document = {**result.to_json(), "best": category.to_json()}
            encode = partial(picture, _MAX_SIDE, quality=_QUALITY)
            self._tasks.start_soon(self._keep, result.spot, wanted, encode, document, name=f"collect-{result.spot}")

    async def _keep(
        self, spot: Spot, wanted: CollectSection, encode: Callable[[], bytes], document: dict[str, Any]
    ) -> None:
        try:
            jpeg = await asyncio.to_thread(encode)
            del encode  # it holds the frame: a camera has few, and a disk may hang
            age_s = await asyncio.to_thread(self._written, spot, wanted, jpeg, document)
        except OSError as error:
            self._not_before_s = self._monotonic_s() + _RETRY_S
            self._say(await asyncio.to_thread(explain, error, self._folder.folder, write=True))
        except ImageError:  # the rest of a picture that could be decoded at a smaller size
            return
        else:
            self._kept_s[spot] = self._monotonic_s() - age_s
            self._say(None)
        finally:
            self.is_writing = False

    def _written(self, spot: Spot, wanted: CollectSection, jpeg: bytes, document: dict[str, Any]) -> float:
        """Returns the age of the newest frame: an earlier run may have kept one a moment ago, which is enough."""
        if spot not in self._kept_s:
            newest_s = self._folder.newest_s(spot)
            age_s = _DAY_S if newest_s is None else self._unix_s() - newest_s
            if 0 <= age_s < _gap_s(wanted):
                return age_s
        self._folder.add(spot, jpeg, document, max_bytes=wanted.max_mb << 20)
        return 0.0

    def _say(self, why: str | None) -> None:
        """Logs when a fault starts, changes or ends."""
        before, self.trouble = self.trouble, None
        if why is not None:
            self.trouble = (
                f"Cannot collect frames in {self._folder.folder}: {why} Free some space, or give the agent's user "
                "write access. The agent retries every minute."
            )
            if self.trouble != before:
                log.warning("%s", self.trouble)
        elif before is not None:
            log.info("Frames can be collected in %s again.", self._folder.folder)


def _gap_s(wanted: CollectSection) -> float:
    return _DAY_S / wanted.per_day
