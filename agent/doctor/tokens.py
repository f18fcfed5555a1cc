"""Tokens: who may use the HTTP API."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, ok, warning
from agent.security.tokens import CREATE
from agent.wiring.access import build_access, tokens_path, why_closed

if TYPE_CHECKING:
    from agent.config.sections import Config
    from agent.host.access import Account


def check_tokens(config: Config, account: Account | None = None) -> Finding:
    """`account`: the user of the service, whom only root may ask about."""
    rules, path = build_access(config), tokens_path(config)
    if (trouble := why_closed(config, rules)) is not None:
        return warning("access", trouble, f"{CREATE} infer")
    if rules.tokens is None:
        return ok("access", f"http.anonymous lets everyone in who reaches {config.http.host}")
    if not (tokens := rules.tokens_now()):
        certificate = f"only for clients with a certificate signed by {config.http.client_ca}"
        return ok("access", certificate if rules.has_certificates else "open to programs on this machine only")
    if account is not None and os.geteuid() == 0 and (denied := account.why_denied(path)) is not None:
        return warning("access", f"{denied.fact} It answers 401 to every client.", f"sudo chown {account.name}: {path}")
    if path.stat().st_mode & 0o022:
        return warning("access", f"Other users can add tokens to {path}.", f"sudo chmod 600 {path}")
    return ok("access", f"{len(tokens)} token{'s' if len(tokens) > 1 else ''} in {path}")
