"""The commands `edge-convert keygen` and `sign`: keys and signatures in minisign's format."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from agent.host.terminal import on_one_line, print_json
from converter.commands.options import Json
from converter.errors import UsageError
from converter.output import check_output, write_whole

PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File with only the password; default: ask on the terminal.")
]


def keygen(
    key: Annotated[
        Path, typer.Argument(metavar="KEY", help="File for the secret key. The public key of birds.key is birds.pub.")
    ],
    password_file: PasswordFile = None,
    no_password: Annotated[
        bool,
        typer.Option(
            "--no-password", help="Do not encrypt KEY, for automated signing. Anyone who can read KEY can then sign."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace KEY and its public key if they exist.")] = False,
    as_json: Json = False,
) -> None:
    """Create a key pair in minisign's format: a secret key to sign models, and a public key for the agents."""
    from agent.security.minisign import key_name
    from converter.signing import SecretKey, public_key_file, secret_key_file

    if no_password and password_file is not None:
        raise UsageError("--no-password and --password-file cannot be used together.")
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
        print(on_one_line(f"Secret key: {key}. It signs models; do not copy it to a device."))
        print(on_one_line(f"Public key: {public}, key id {name}. Copy it to the trusted keys of the devices."))


def sign(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Finished .tflite file, or SavedModel folder.")],
    key: Annotated[Path, typer.Option(metavar="KEY", help="Secret key made by keygen or minisign.")],
    version: Annotated[
        int | None,
        typer.Option(min=0, max=10**18 - 1, help="Version to include in the signature; agents refuse lower versions."),
    ] = None,
    password_file: PasswordFile = None,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Comment to include in the signature.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the signature if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Sign a finished model in minisign's format. The signature is written to MODEL.minisig.

    For a SavedModel, it signs the list of the SHA-256 of all files.
    """
    from agent.security.minisign import key_name
    from converter.signing import read_secret_key, signature_file, trusted_comment

    content = _content(model)
    model = model.absolute() if model.name in ("", "..") else model
    signature = model.with_name(f"{model.name}.minisig")
    check_output([signature], force=force)
    trusted = trusted_comment(model.name, timestamp_s=int(time.time()), version=version, words=comment)
    secret = read_secret_key(key, password=lambda: _password(password_file, new=False))
    write_whole(signature, signature_file(content, secret, comment=trusted))
    if as_json:
        print_json({"signature": str(signature), "key_id": key_name(secret.id), "trusted_comment": trusted})
    else:
        name = key_name(secret.id)
        print(on_one_line(f"Signature: {signature}, key id {name}. Copy it before the model, or together with it."))


def _content(model: Path) -> Path | bytes:
    """What is signed: the file, or the manifest of the folder."""
    from agent.host.digest import manifest_of
    from agent.model_file.completeness import GRAPH, check_complete

    if model.is_file():
        return model
    if not (model / GRAPH).is_file():
        raise UsageError(f"{model} is neither a file nor a SavedModel. Give the finished .tflite file or the folder.")
    try:
        check_complete(model)
        return manifest_of(model)
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be signed: {error.strerror}.") from None


def _password(file: Path | None, *, new: bool) -> bytes:
    """The content of `file`, or the input on the terminal, which asks twice for a new password."""
    from converter.signing import read_password

    if file is not None:
        password = read_password(file)
        if new and not password:
            raise UsageError(f"{file} is empty. Put a password in it, or use --no-password.")
        return password
    if not sys.stdin.isatty():
        other = ", or --no-password" if new else ""
        raise UsageError(f"Cannot ask for the password without a terminal. Use --password-file FILE{other}.")
    default = None if new else ""
    asked: str = typer.prompt(
        "Password", hide_input=True, confirmation_prompt=new, default=default, show_default=False, err=True
    )
    return asked.encode()
