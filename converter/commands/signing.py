"""The commands `edge-convert keygen` and `sign`: keys as minisign has them, and signatures of finished files."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from agent.host.terminal import print_json
from converter.commands.options import Json
from converter.errors import UsageError
from converter.output import check_output, write_whole

PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Holds the password and nothing else; without it you are asked.")
]


def keygen(
    key: Annotated[
        Path, typer.Argument(metavar="KEY", help="The secret key's file; for birds.key the public one is birds.pub.")
    ],
    password_file: PasswordFile = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Whoever can read KEY can sign: for machines that sign by themselves.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace KEY and its public key.")] = False,
    as_json: Json = False,
) -> None:
    """Make a pair of keys as minisign does: one to sign models with, one for the agents that shall trust them."""
    from agent.security.minisign import key_name
    from converter.signing import SecretKey, public_key_file, secret_key_file

    if no_password and password_file is not None:
        raise UsageError("--no-password and --password-file exclude each other.")
    public = key.with_suffix(".pub") if key.suffix == ".key" else key.with_name(f"{key.name}.pub")
    check_output((key, public), force=force)
    password = None if no_password else _password(password_file, new=True)
    secret = SecretKey.new()
    write_whole(key, secret_key_file(secret, password), mode=0o600)
    write_whole(public, public_key_file(secret.public))
    name = key_name(secret.id)
    if as_json:
        print_json({"secret_key": str(key), "public_key": str(public), "key_id": name})
    else:
        print(f"Secret key: {key}, which signs; keep it where no device is.")
        print(f"Public key: {public}, {name}; copy it into the trusted keys of the devices.")


def sign(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="A finished file.")],
    key: Annotated[Path, typer.Option(metavar="KEY", help="The secret key of keygen, or of minisign.")],
    version: Annotated[
        int | None, typer.Option(min=0, max=10**18 - 1, help="Signed too, so that no older one can take its place.")
    ] = None,
    password_file: PasswordFile = None,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Signed too, for people.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the signature.")] = False,
    as_json: Json = False,
) -> None:
    """Sign a finished file as minisign does: the signature goes to MODEL.tflite.minisig, beside it."""
    from agent.security.minisign import key_name
    from converter.signing import read_secret_key, signature_file, trusted_comment

    if not model.is_file():
        raise UsageError(f"{model} is no file: give the finished .tflite.")
    signature = model.with_name(f"{model.name}.minisig")
    check_output([signature], force=force)
    said = trusted_comment(model.name, timestamp_s=int(time.time()), version=version, words=comment)
    secret = read_secret_key(key, password=lambda: _password(password_file, new=False))
    write_whole(signature, signature_file(model, secret, comment=said))
    if as_json:
        print_json({"signature": str(signature), "key_id": key_name(secret.id), "trusted_comment": said})
    else:
        print(f"Signature: {signature}, by {key_name(secret.id)}; copy it before the model, or with it.")


def _password(file: Path | None, *, new: bool) -> bytes:
    """From `file`, else from the terminal, where a new one is asked for twice."""
    from converter.signing import read_password

    if file is not None:
        password = read_password(file)
        if new and not password:
            raise UsageError(f"{file} is empty: put a password into it, or say --no-password.")
        return password
    if not sys.stdin.isatty():
        other = ", or --no-password" if new else ""
        raise UsageError(f"There is no terminal to ask for the password on: give --password-file FILE{other}.")
    default = None if new else ""
    asked: str = typer.prompt(
        "Password", hide_input=True, confirmation_prompt=new, default=default, show_default=False, err=True
    )
    return asked.encode()
