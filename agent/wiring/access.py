"""Access: who may use HTTP, by which names and with which certificate, from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import ConfigError
from agent.rest.front import Reach
from agent.security.access import AccessRules
from agent.security.server_tls import ServerFiles, why_unusable
from agent.security.tokens import CREATE, TokensFile

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.sections import Config


def tokens_path(config: Config) -> Path:
    return config.http.tokens_file or config.device.state_folder / "tokens"


def build_access(config: Config) -> AccessRules:
    http = config.http
    tokens = TokensFile(tokens_path(config), is_required=http.tokens_file is not None)
    has_certificates = http.client_ca is not None
    return AccessRules(
        tokens=None if http.anonymous else tokens,
        is_local=http.is_local and not has_certificates,
        has_certificates=has_certificates,
    )


def server_files(config: Config) -> ServerFiles | None:
    """None without TLS."""
    http = config.http
    if http.tls_cert is None or http.tls_key is None:
        return None
    return ServerFiles(http.tls_cert, http.tls_key, http.client_ca)


def build_reach(config: Config) -> Reach:
    http = config.http
    return Reach(hosts=(*http.hosts, http.host.lower()), cors=tuple(http.cors), base_path=http.base_path or "")


def why_closed(config: Config, rules: AccessRules) -> str | None:
    """Why HTTP refuses every client, and what to do; None if it does not."""
    if (tokens := rules.tokens_now()) is None or tokens or rules.has_certificates:
        return None
    return (
        f"HTTP at {config.http.host} answers 401 to every client, except on /healthz and /readyz: no access token "
        f"is in {tokens_path(config)}. Make one with {CREATE} infer, or set "
        "http.anonymous to true, which lets everyone in. Cameras and MQTT are not affected."
    )


def why_no_https(config: Config) -> str | None:
    """Why no TLS handshake would succeed, and what to do; None if it would, or without TLS. Reads the files."""
    try:
        if (files := server_files(config)) is not None:
            files.context()
    except ConfigError as error:
        return why_unusable(error)
    return None
