"""Self-signed: a certificate that a device signs itself, for clients that get a copy of it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography import x509

_DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_AGO = dt.timedelta(days=1)  # a client's clock may be slow


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """`certificate` and `key` are in PEM format. `names` are the host names and addresses in the certificate."""

    certificate: bytes
    key: bytes
    names: Sequence[str]
    until: dt.datetime
    sha256: str


def own_names_and_addresses() -> list[str]:
    """The host name, also with .local (mDNS), and the addresses of all network interfaces."""
    import psutil  # noqa: PLC0415  (only this command needs it)

    host = socket.gethostname().lower()
    names = [host, *([] if "." in host else [f"{host}.local"])]
    families = (socket.AF_INET, socket.AF_INET6)
    found = [each for entries in psutil.net_if_addrs().values() for each in entries if each.family in families]
    addresses = [ipaddress.ip_address(each.address.partition("%")[0]) for each in found]
    return [*(name for name in names if _DNS_NAME.fullmatch(name)), *(str(a) for a in addresses if not a.is_link_local)]


def make_certificate(names: Iterable[str], *, days: int) -> SelfSigned:
    """For `names` and for this machine's own (localhost). Raises AgentError if one of them is not valid."""
    # Imported here: the service runs without them.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    names = list(dict.fromkeys([*map(_valid, names), *_LOCAL]))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = dt.datetime.now(dt.timezone.utc)
    until = now + dt.timedelta(days=days)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        False,
    )
    rest = dict.fromkeys(("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _AGO)
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        # Not an authority: its key cannot sign certificates for other names.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage, **rest), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return SelfSigned(
        certificate=signed.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        names=names,
        until=until,
        sha256=fingerprint(signed),
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 in the form that browsers and openssl show."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415  (the service runs without it)

    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _valid(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        ascii_name = name.lower().encode("idna").decode()
    except UnicodeError:
        ascii_name = ""
    if not _DNS_NAME.fullmatch(ascii_name.removeprefix("*.")) or re.fullmatch(r"[\d.]+", ascii_name):
        raise AgentError(f"{name!r} is not a host name or an address. Use the form pi-1.local or 192.168.1.20.")
    return ascii_name


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509  # noqa: PLC0415  (the service runs without it)

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
