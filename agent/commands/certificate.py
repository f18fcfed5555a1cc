"""The command `edge-agent certificate`: makes a self-signed certificate for the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.options import ConfigFile, service_settings, service_user
from agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.sections import Config


def certificate(
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            help="Host name or address by which clients reach this device; may be repeated. Default: the host name, "
            "the same with .local, and the addresses of this device.",
        ),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=36500, help="How long it is valid, in days.")] = 825,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing certificate and its key.")] = False,
    config: ConfigFile = None,
) -> None:
    """Make a self-signed certificate with its key, and print its fingerprint and the settings that use it.

    A running agent whose configuration names the files uses the new certificate within seconds.
    """
    from agent.host.durable import write_and_rename
    from agent.security.self_signed import make_certificate, own_names_and_addresses

    settings = service_settings(config)
    cert_file, key_file = _files(settings)
    for file in (cert_file, key_file):
        if file.exists() and not force:
            raise AgentError(f"{file} exists. Add --force to replace it; clients then need the new certificate.")
    made = make_certificate(host or own_names_and_addresses(), days=days)
    owner = service_user(settings)
    try:
        for file, content, mode in ((key_file, made.key, 0o600), (cert_file, made.certificate, 0o644)):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = file.with_name(f".{file.name}.new")
            aside.unlink(missing_ok=True)  # a power cut may have left it
            write_and_rename(aside, file, content, mode=mode, owner=owner)
    except OSError as error:
        raise AgentError(
            f"Cannot write {file}: {error.strerror}. On a device with the installed service, run the command with sudo."
        ) from None
    print(f"Certificate  {cert_file}\nKey          {key_file}\nNames        {', '.join(made.names)}")
    print(f"Valid until  {made.until:%Y-%m-%d}\nSHA-256      {made.sha256}")
    if settings.http.tls_cert is None:
        print(
            f"\nAdd this to the configuration and restart the service:\n\nhttp:\n"
            f"  tls_cert: {cert_file}\n  tls_key: {key_file}"
        )


def _files(settings: Config) -> tuple[Path, Path]:
    """Those of the configuration, else in the state folder, which the service can read."""
    http, folder = settings.http, settings.device.state_folder
    if http.tls_cert is None or http.tls_key is None:
        return folder / "tls-cert.pem", folder / "tls-key.pem"
    if http.tls_cert == http.tls_key:
        raise ConfigError("http.tls_cert and http.tls_key name the same file. Give each a file of its own.")
    return http.tls_cert, http.tls_key
