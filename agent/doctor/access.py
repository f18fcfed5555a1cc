"""Access: whether the service may read its configuration and the files that this names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.config.load import named_files
from agent.sources.source import is_inbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config.sections import Config
    from agent.host.access import Account, Denied


def denied_files(path: Path, config: Config, account: Account | None) -> Iterator[tuple[str, Denied]]:
    """The key of each file that `account` may not use, and why; nothing unless root asks for an existing account.

    `path` is the configuration file. Files that do not exist are left to other checks.
    """
    if account is None or os.geteuid() != 0:
        return
    inboxes = [name for name, camera in config.cameras.items() if is_inbox(camera.source)]
    written = {"device.state_folder", *(f"cameras.{name}.{key}" for name in inboxes for key in ("source", "after"))}
    for key, file in ((path.name, path), *_files_of(config)):
        if not os.path.exists(file):  # noqa: PTH110  (Path raises for a closed folder)
            continue
        denied = account.why_denied(file, write=key in written)
        if denied is not None:
            yield key, denied


def _files_of(config: Config) -> Iterator[tuple[str, Path]]:
    for key, file in named_files(config):
        yield key, file
        if key == "models.trusted_keys":
            yield from ((key, each) for each in sorted(file.glob("*.pub")))
