"""Access: who may use HTTP and gRPC, by which names and with which certificate, from the configuration."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from agent.errors import ConfigError
from agent.rest.front import Reach
from agent.security.access import AccessRules
from agent.security.server_tls import ServerFiles, why_unusable
from agent.security.sessions import Sessions
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
        sessions=Sessions(config.device.state_folder / "session_key"),
    )


def grpc_access(config: Config, rules: AccessRules) -> AccessRules:
    """Those of HTTP with the address of gRPC, where certificates of clients do not count."""
    is_local = config.grpc.is_local and not rules.has_certificates
    return dataclasses.replace(rules, is_local=is_local, has_certificates=False)


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
    """Why HTTP, gRPC or both refuse every client, and what to do; None if none does. `rules`: those of HTTP."""
    closed = []
    if _is_closed(rules):
        closed.append(f"HTTP at {config.http.host} answers 401 to every client, except on /healthz and /readyz")
    if config.grpc.enabled and _is_closed(grpc_access(config, rules)):
        closed.append(f"gRPC at {config.grpc.host} answers UNAUTHENTICATED to every client, except about its health")
    if not closed:
        return None
    return (
        f"{', and '.join(closed)}: no access token is in {tokens_path(config)}. Make one with {CREATE} infer, or set "
        "http.anonymous to true, which lets everyone in. Cameras and MQTT are not affected."
    )


def _is_closed(rules: AccessRules) -> bool:
    tokens = rules.tokens_now()
    return tokens is not None and not tokens and not rules.has_certificates


def why_no_https(config: Config) -> str | None:
    """Why no TLS handshake would succeed, and what to do; None if it would, or without TLS. Reads the files."""
    try:
        if (files := server_files(config)) is not None:
            files.context()
    except ConfigError as error:
        return why_unusable(error)
    return None
