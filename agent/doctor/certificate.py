"""Certificate: whether HTTPS has a certificate that clients accept."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, fault, ok, warning
from agent.errors import ConfigError
from agent.security.self_signed import fingerprint
from agent.wiring.access import server_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.sections import Config

_SOON = dt.timedelta(days=14)  # ACME clients renew a month before the end
_RENEW = "Renew it: run your ACME client, or sudo edge-agent certificate --force. The agent takes the new one at once."
_OTHERS = 0o006  # read, write


def check_certificate(config: Config) -> Iterator[Finding]:
    """Nothing without TLS."""
    if (files := server_files(config)) is None:
        return
    try:
        files.context()
    except ConfigError as error:
        yield fault("HTTPS", str(error), "Fix it; the agent looks at the files every second.")
        return
    yield _check_dates("http.tls_cert", files.cert_file.read_bytes(), _RENEW)
    if files.client_ca is not None:
        yield _check_dates(
            "http.client_ca",
            files.client_ca.read_bytes(),
            "Give the agent a new one, and the clients certificates of it.",
        )
    if files.key_file.stat().st_mode & _OTHERS:
        yield warning("http.tls_key", "Everyone on this machine may read it.", f"sudo chmod o-rw {files.key_file}")


def _check_dates(key: str, pem: bytes, remedy: str) -> Finding:
    """Of the first certificate in `pem`."""
    from cryptography import x509  # noqa: PLC0415  (the service runs without it)

    try:
        certificate, *_ = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        return warning(key, f"Its dates cannot be read: {error}", remedy)
    now, since, until = (
        dt.datetime.now(dt.timezone.utc),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    if now < since:
        return fault(key, f"It is valid from {since:%Y-%m-%d %H:%M} UTC on only.", "Correct the clock: timedatectl")
    if now > until:
        return fault(key, f"It expired on {until:%Y-%m-%d}. It is refused.", remedy)
    if until - now < _SOON:
        return warning(key, f"It expires on {until:%Y-%m-%d}.", remedy)
    return ok(key, f"valid until {until:%Y-%m-%d}, SHA-256 {fingerprint(certificate)}")
