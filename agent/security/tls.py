"""Tls: the certificate authorities that a TLS client trusts, and the certificate that it presents."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.host.access import explain

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """Without `ca_file` the system's authorities are trusted. `cert_file` and `key_file` identify this client.

    `section` is the section of the configuration that names the files; error messages mention it.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    section: str = field(kw_only=True)

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later; checks the server's certificate and its host name. Raises ConfigError."""
        # Not create_default_context(): since Python 3.13 it rejects many self-made certificate authorities.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _Socket
        self._load_authorities(context)
        if self.cert_file is not None:
            settings = f"{self.section}.cert_file", f"{self.section}.key_file"
            load_certificate(context, self.cert_file, self.key_file or self.cert_file, settings=settings)
        return context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        if self.ca_file is None:
            context.load_default_certs()
        else:
            load_authorities(context, self.ca_file, setting=f"{self.section}.ca_file")


def load_authorities(context: ssl.SSLContext, file: Path, *, setting: str) -> None:
    """Trusts the certificates in `file`. Raises ConfigError, which names the setting and the file."""
    _check_pem(setting, file, b"CERTIFICATE-----", "certificate")
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise ConfigError(f"{setting} {file} is damaged. Copy it again.") from None


def load_certificate(context: ssl.SSLContext, cert_file: Path, key_file: Path, *, settings: tuple[str, str]) -> None:
    """`settings` name the certificate and the key. Raises ConfigError, which names the setting and the file."""
    certificate, key = f"{settings[0]} {cert_file}", f"{settings[1]} {key_file}"
    _check_pem(settings[0], cert_file, b"CERTIFICATE-----", "certificate")
    _check_pem(settings[1], key_file, b"PRIVATE KEY-----", "private key")
    try:
        # Without a password argument OpenSSL would prompt for the password of an encrypted key on the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{key} is not the key of {certificate}. Give a certificate and its own key.") from None
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            raise ConfigError(
                f"{certificate} is too weak: its key is too short or its signature uses an old hash. "
                "Use an ECDSA key or an RSA key of at least 2048 bits, and SHA-256."
            ) from None
        raise ConfigError(
            f"{certificate} or {key} is damaged or encrypted. Copy both again, and use a key without a passphrase."
        ) from None


class _Socket(ssl.SSLSocket):
    """Closes itself when the handshake fails, because not every client library closes it."""

    def do_handshake(self, *arguments: Any) -> None:
        try:
            super().do_handshake(*arguments)
        except OSError:
            self.close()
            raise


def _check_pem(setting: str, file: Path, mark: bytes, content: str) -> None:
    """Checked here because OpenSSL's error does not say which of the two files is wrong."""
    try:
        has_mark = mark in file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting} {file} cannot be read: {explain(error, file)}") from None
    if not has_mark:
        raise ConfigError(f"{setting} {file} contains no {content} in PEM format.")
