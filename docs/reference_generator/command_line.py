"""Command line: the page with every command, argument and option of both programs."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from agent.cli import app as agent_app
from converter.cli import app as converter_app
from docs.reference_generator.markdown import code, code_list, page, table, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import typer

_INTRODUCTION = """
# Commands

For everyone who works in a shell: every command, argument and option of `edge-agent`, which runs
on the device, and of `edge-convert`, which runs on a computer with TensorFlow. `--help` prints the
same.
"""
_AGENT = """
Errors are one sentence on standard error. With `--json`, programs can read the output.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | failure: an error, an image that fails (`classify`), an unfit model (`inspect`), a fault (`doctor`, `cameras`) |
| 2 | wrong usage, or an invalid configuration; systemd does not restart the service |
| 130 | interrupted with Ctrl-C |
"""
_CONVERTER = """
Errors are one sentence on standard error, with `--debug` also a traceback.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | failure, or a failed check (`--max-drop`, golden samples, the target); a model that fails one is not written |
| 2 | wrong usage, or the model leaves a choice open (`--signature`, `--input-size`) |
| 130 | interrupted with Ctrl-C; no partial output is left |
"""
_KINDS = {Path: "path", str: "string", int: "integer", float: "number"}


def command_line_page() -> str:
    return page(
        _INTRODUCTION,
        *_program("edge-agent", agent_app, _AGENT),
        *_program("edge-convert", converter_app, _CONVERTER),
        source="agent/commands and converter/commands",
    )


def _program(name: str, app: typer.Typer, introduction: str) -> Iterator[str]:
    yield f"## {name}"
    yield wrapped(f"{app.info.help} `{name} --version` prints the version.")
    yield introduction
    for words, callback in _commands(name, app):
        yield from _command(words, callback)


def _commands(prefix: str, app: typer.Typer) -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield f"{prefix} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from _commands(f"{prefix} {group.name}", group.typer_instance)


def _command(words: str, callback: Callable[..., Any]) -> Iterator[str]:
    hints = get_type_hints(callback, include_extras=True)
    rows, arguments = [], []
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = _unwrapped(hints[name])
        if isinstance(info, ArgumentInfo):
            shown = info.metavar or name.upper()
            arguments.append(shown)
        else:
            shown = ", ".join(_flags(info) or [f"--{name.replace('_', '-')}"])
            if kind is not bool and info.metavar:
                shown += f" {info.metavar}"
        rows.append((code(shown), _values(kind, info), _default(parameter.default, info), info.help or ""))
    yield f"### {words}"
    yield "\n\n".join(map(wrapped, inspect.cleandoc(callback.__doc__ or "").split("\n\n")))
    yield f"```\n{' '.join((words, '[OPTIONS]', *arguments))}\n```"
    yield table(("argument or option", "value", "default", "description"), rows)


def _unwrapped(hint: Any) -> tuple[Any, ArgumentInfo | OptionInfo]:
    """The type without Annotated, None and list; and how typer declares the parameter."""
    kind, info = get_args(hint)
    while get_origin(kind) is not Literal and (inner := get_args(kind)):  # `Path | None`, `list[Path]`
        kind = next(each for each in inner if each is not NoneType)
    return kind, info


def _flags(info: OptionInfo) -> list[str]:
    """Inside Annotated, typer keeps the first one as the default."""
    return [each for each in map(str, (info.default, *(info.param_decls or ()))) if each.startswith("-")]


def _values(kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    if get_origin(kind) is Literal:
        return code_list(get_args(kind))
    if kind is bool:
        return ""
    if info.min is not None and info.max is not None:
        return f"{_KINDS[kind]}, {info.min} to {info.max}"
    return _KINDS[kind] if info.min is None else f"{_KINDS[kind]}, at least {info.min}"


def _default(value: Any, info: ArgumentInfo | OptionInfo) -> str:
    if value is inspect.Parameter.empty:
        return "required" if isinstance(info, OptionInfo) else ""
    return "" if value in (None, "") or isinstance(value, bool) else code(value)
