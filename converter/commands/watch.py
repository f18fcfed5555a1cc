"""The command `edge-convert watch`: converts, signs and delivers each new version that a training exports."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from agent import logs
from agent.host import systemd
from agent.host.access import explain
from converter.commands.convert import convert
from converter.commands.options import Debug
from converter.errors import ConverterError
from converter.signing import read_password, read_secret_key
from converter.watching.options import section_of
from converter.watching.pipeline import Pipeline
from converter.watching.recipe import load_recipe
from converter.watching.watcher import Times, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.signing import SecretKey
    from converter.watching.recipe import Recipe

# What watch decides itself for each version.
OWN_OPTIONS = ("all", "name", "version", "report", "explain", "deploy", "force", "json", "debug")
_PROGRAM = (sys.executable, "-m", "converter.commands.watch_conversion")


def watch(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to watch, convert and deliver.")],
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Process what is there, then exit; 1 if a newest version was not delivered or a model has none.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Convert, sign and deliver each new version of the models in a folder, until SIGTERM or Ctrl-C.

    Each version is converted by `edge-convert convert` with the options in the recipe. One that fails a check leaves
    the reason and its report in the folder for reports and is not delivered.
    """
    logs.set_up(form="text", level="debug" if debug else "info", device="")
    found = load_recipe(recipe, section_of(convert, without=OWN_OPTIONS))
    if missing := " ".join(found.missing):
        raise ConverterError(missing)
    with _claimed(found.reports):
        pipeline = Pipeline(found, key=_secret_key(found), program=_PROGRAM)
        watcher = Watcher(found.source, list(found.models), pipeline, times=Times(rest_s=found.rest_s))
        troubles = asyncio.run(_once(watcher) if once else _until_stopped(watcher, found))
    if troubles:
        raise ConverterError(f"Not everything was delivered. {' '.join(troubles)}")


def _secret_key(recipe: Recipe) -> SecretKey | None:
    key = recipe.key or _credential("signing_key")
    if key is None:
        return None

    def password() -> bytes:
        file = recipe.password_file or _credential("signing_password")
        if file is None:
            raise ConverterError(f"{key} has a password. Give a file with it: password_file.")
        return read_password(file)

    return read_secret_key(key, password=password)


def _credential(name: str) -> Path | None:
    """The file that systemd's LoadCredential= gives. An empty one counts as missing: the unit's default is empty."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder, name) if folder else None
    return file if file is not None and file.is_file() and file.read_bytes().strip() else None


@contextmanager
def _claimed(reports: Path) -> Iterator[None]:
    """Two watches with the same folder would convert everything twice."""
    try:
        reports.mkdir(parents=True, exist_ok=True)
        lock = (reports / ".lock").open("wb")
    except OSError as error:
        raise ConverterError(f"The folder {reports} cannot be used: {explain(error, reports, write=True)}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConverterError(
                f"Another edge-convert watch uses {reports}. Stop it, or give another folder."
            ) from None
        yield


async def _once(watcher: Watcher) -> list[str]:
    return await watcher.run_once()


async def _until_stopped(watcher: Watcher, recipe: Recipe) -> list[str]:
    loop = asyncio.get_running_loop()
    async with anyio.create_task_group() as tasks:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, tasks.cancel_scope.cancel)
        systemd.notify("READY=1")
        logs.log.info("Watching %s for %s.", recipe.source, ", ".join(recipe.models))
        tasks.start_soon(_feed_watchdog)
        await watcher.run()
    logs.log.info("Stopped.")
    return []


async def _feed_watchdog() -> None:
    period_s = systemd.watchdog_period_s()
    while period_s is not None:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(period_s)
