"""The commands `edge-agent models ...`: what the agent that runs serves, and which version it shall serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.options import Json
from agent.errors import ConfigError
from agent.host.terminal import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.remote import RemoteAgent

models_app = typer.Typer(no_args_is_help=True, help="Show and choose the versions that the running agent serves.")


def _not_empty(name: str) -> str:
    if not name:
        raise typer.BadParameter("A name is not empty.")
    return name


Name = Annotated[str, typer.Argument(metavar="NAME", help="The model.", callback=_not_empty)]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of that agent: says where it listens.")]
Url = Annotated[str | None, typer.Option("--url", help="Where it listens: http://192.168.1.20:8501. Beats --config.")]


@models_app.command("list")
def list_models(config: ConfigFile = None, url: Url = None, as_json: Json = False) -> None:
    """Show every model: what serves, what is on its way, what was rejected last."""
    models = _agent(config, url).models()
    if as_json:
        print_json(models)
    else:
        head = ("model", "version", "since", "remarks", "candidate", "last rejection")
        print_table(head, map(_model_row, models))


@models_app.command()
def show(name: Name, config: ConfigFile = None, url: Url = None, as_json: Json = False) -> None:
    """Show the versions of one model that were admitted, the newest first."""
    model = _agent(config, url).model(name)
    if as_json:
        print_json(model)
    else:
        head = ("version", "state", "file", "sha256", "admitted at")
        print_table(head, map(_version_row, model["versions"]))
        for line in _explanations(model):
            print(line)


@models_app.command()
def rollback(name: Name, config: ConfigFile = None, url: Url = None, as_json: Json = False) -> None:
    """Withdraw the canary or, where there is none, the serving version: the last good one serves."""
    _say(_agent(config, url).rollback(name), as_json)


@models_app.command()
def pin(
    name: Name,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=0, help="As `models show` lists them.")],
    config: ConfigFile = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Serve this very version until it is unpinned, whatever is dropped meanwhile."""
    _say(_agent(config, url).pin(name, version), as_json)


@models_app.command()
def unpin(name: Name, config: ConfigFile = None, url: Url = None, as_json: Json = False) -> None:
    """Let the newest good version serve again."""
    _say(_agent(config, url).unpin(name), as_json)


@models_app.command()
def promote(name: Name, config: ConfigFile = None, url: Url = None, as_json: Json = False) -> None:
    """Let the canary serve everybody."""
    _say(_agent(config, url).promote(name), as_json)


def _agent(config: Path | None, url: str | None) -> RemoteAgent:
    from agent.remote import RemoteAgent

    return RemoteAgent(url if url is not None else _configured_url(config))


def _configured_url(config: Path | None) -> str:
    from agent.config.load import load_config

    http = load_config(config).http
    if http.port == 0:
        raise ConfigError("http.port 0 lets the kernel choose a port. Say which: --url http://127.0.0.1:PORT.")
    return http.own_url()


def _say(model: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(model)
        return
    serving = f"version {model['serving']['version']}" if model["serving"] else "no version"
    remarks = f" ({_remarks(model)})" if _remarks(model) else ""
    print(f"Model {model['name']} serves {serving}{remarks}.")


def _model_row(model: dict[str, Any]) -> tuple[str, ...]:
    serving, rejection = model["serving"], model["rejection"]
    return (
        model["name"],
        serving["version"] if serving else "",
        model["since"] or "",
        _remarks(model),
        model["candidate"] or "",
        f"{rejection['file']}: {rejection['reason']}" if rejection else "",
    )


def _remarks(model: dict[str, Any]) -> str:
    remarks = ["on probation"] if model["probation"] else []
    if model["pinned"]:
        remarks.append(f"pinned to {model['pinned']}")
    if model["canary"]:
        remarks.append(f"canary {model['canary']['version']}")
    return ", ".join(remarks)


def _version_row(version: dict[str, Any]) -> tuple[str, ...]:
    return (
        version["version"],
        version["state"],
        version["file"],
        version["sha256"][:12],
        version["admitted_at"][:19],
    )


def _explanations(model: dict[str, Any]) -> Iterator[str]:
    """What a table has no room for."""
    if remarks := _remarks(model):
        yield f"It is {remarks}."
    if model["candidate"]:
        yield f"{model['candidate']} is on its way."
    told = set()
    for version in model["versions"]:
        if version["reason"]:
            told.add(version["reason"])
            yield f"Version {version['version']}: {version['reason']}"
    if model["rejection"] and model["rejection"]["reason"] not in told:
        yield f"{model['rejection']['file']}: {model['rejection']['reason']}"
