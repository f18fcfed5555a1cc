"""Certificates: a test's own certificate authority, and the certificates that it signs."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    ca_file: Path
    cert_file: Path
    key_file: Path

    def sign(self, name: str) -> Certificate:
        """With the key of a certificate that is not an authority's."""
        key = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signer = x509.load_pem_x509_certificate(self.cert_file.read_bytes()).subject
        return _sign(signer, key, name, self.cert_file.parent, self.ca_file, host="127.0.0.1", days=(0, 1))

    def listener(self, *, requires_certificate: bool = False) -> str:
        """Returns mosquitto.conf lines for TLS; `requires_certificate` asks clients for a certificate."""
        files = f"certfile {self.cert_file}\nkeyfile {self.key_file}\n"
        return files + (f"cafile {self.ca_file}\nrequire_certificate true\n" if requires_certificate else "")

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


class Authority:
    """Signs certificates for 127.0.0.1 and localhost, unless `host` is given, and keeps them in `folder`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.ca_file = folder / f"{name}.pem"
        _write_certificate(
            self.ca_file,
            _certificate(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256()),
        )

    def sign(self, name: str, *, host: str = "127.0.0.1", age_days: int = 0, valid_days: int = 1) -> Certificate:
        """`valid_days` count from `age_days` ago."""
        days = (age_days, valid_days)
        return _sign(self._name, self._key, name, self._folder, self.ca_file, host=host, days=days)


def encrypt_key(file: Path) -> None:
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    _write_key(file, key, serialization.BestAvailableEncryption(b"secret"))


def _sign(
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    name: str,
    folder: Path,
    ca_file: Path,
    *,
    host: str,
    days: tuple[int, int],
) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    address = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
    signed = (
        _certificate(issuer, _named(name), key.public_key(), days=days)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    made = Certificate(ca_file, folder / f"{name}.crt", folder / f"{name}.key")
    _write_certificate(made.cert_file, signed)
    _write_key(made.key_file, key, serialization.NoEncryption())
    return made


def _certificate(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, days: tuple[int, int] = (0, 1)
) -> x509.CertificateBuilder:
    since = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1) - days[0] * _DAY
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + days[1] * _DAY)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write_certificate(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(
    file: Path, key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption
) -> None:
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
