"""The commands `edge-agent models ...`: show and select the versions that a running agent serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.options import Json, TokenFile, access_token
from agent.errors import ConfigError
from agent.host.terminal import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.http import HttpSection
    from agent.remote import RemoteAgent

models_app = typer.Typer(no_args_is_help=True, help="Show and select the versions that a running agent serves.")


def _not_empty(name: str) -> str:
    if not name:
        raise typer.BadParameter("The name is empty. Give the name of a model.")
    return name


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.", callback=_not_empty)]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file of the agent, to read its address from.", readable=False),
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Address of the agent, such as http://192.168.1.20:8501. Overrides --config."),
]


@models_app.command("list")
def list_models(
    config: ConfigFile = None, url: Url = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """List the models with their serving version, candidate and last rejection."""
    models = _agent(config, url, token_file).models()
    if as_json:
        print_json(models)
    else:
        head = ("model", "version", "since", "remarks", "candidate", "last rejection")
        print_table(head, map(_model_row, models))


@models_app.command()
def show(
    name: Name, config: ConfigFile = None, url: Url = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """Show the admitted versions of a model, newest first."""
    model = _agent(config, url, token_file).model(name)
    if as_json:
        print_json(model)
    else:
        head = ("version", "state", "file", "sha256", "admitted at")
        print_table(head, map(_version_row, model["versions"]))
        for line in _explanations(model):
            print(line)


@models_app.command()
def rollback(
    name: Name, config: ConfigFile = None, url: Url = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """Withdraw the canary, or without a canary the serving version, and serve the last good version."""
    _say(_agent(config, url, token_file).rollback(name), as_json)


@models_app.command()
def pin(
    name: Name,
    version: Annotated[
        int, typer.Argument(metavar="VERSION", min=0, help="Version number, as listed by `models show`.")
    ],
    config: ConfigFile = None,
    url: Url = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Serve this version until it is unpinned, even if new files are dropped."""
    _say(_agent(config, url, token_file).pin(name, version), as_json)


@models_app.command()
def unpin(
    name: Name, config: ConfigFile = None, url: Url = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """Serve the newest good version again."""
    _say(_agent(config, url, token_file).unpin(name), as_json)


@models_app.command()
def promote(
    name: Name, config: ConfigFile = None, url: Url = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """Make the canary the serving version."""
    _say(_agent(config, url, token_file).promote(name), as_json)


def _agent(config: Path | None, url: str | None, token_file: Path | None) -> RemoteAgent:
    from agent.remote import RemoteAgent

    token = access_token(token_file)
    if url is not None:
        return RemoteAgent(url, token=token)
    http = _configured_http(config)
    return RemoteAgent(http.own_url(), token=token, cert_file=http.tls_cert)


def _configured_http(config: Path | None) -> HttpSection:
    from agent.config.load import load_config

    http = load_config(config).http
    if http.port == 0:
        raise ConfigError(
            "With http.port 0 the system chooses the port. Give the address with --url http://127.0.0.1:PORT."
        )
    return http


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
    """The lines below the table."""
    if remarks := _remarks(model):
        yield f"Status: {remarks}."
    if model["candidate"]:
        yield f"Candidate: {model['candidate']}"
    if why := model.get("accelerator_reason"):  # an older agent has none
        yield f"Runs on {model['runtime']}. {why}"
    reasons = set()
    for version in model["versions"]:
        if version["reason"]:
            reasons.add(version["reason"])
            yield f"Version {version['version']}: {version['reason']}"
    if model["rejection"] and model["rejection"]["reason"] not in reasons:
        yield f"{model['rejection']['file']}: {model['rejection']['reason']}"
