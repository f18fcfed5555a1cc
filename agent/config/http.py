"""HTTP: the keys of the HTTP and the gRPC API."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config.section import Section
from agent.image import MAX_PIXELS

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (valid to listen on, not to connect to)
_PORTS_OF_SCHEMES = {"http": ":80", "https": ":443"}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_name(name: str) -> str:
    if name != "*" and not re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", name, re.ASCII):
        raise ValueError("must be a host name such as agent.example.com, without scheme and port")
    return name.lower().rstrip(".")


def _origin(origin: str) -> str:
    match = re.fullmatch(r"(https?)://(\[[0-9a-f:.]+\]|[\w.-]+)(:\d+)?/?", origin.lower(), re.ASCII)
    if origin != "*" and match is None:
        raise ValueError("must be an origin such as https://shop.example:8443, without a path")
    if match is None:
        return origin
    scheme, host, port = match.groups()
    return f"{scheme}://{host}{'' if port in (None, _PORTS_OF_SCHEMES[scheme]) else port}"  # as browsers send it


def _network(network: str) -> str:
    return str(ipaddress.ip_network(network))


def _base_path(path: str) -> str:
    if not re.fullmatch(r"(/[\w~-][\w.~-]*)+/?", path, re.ASCII):
        raise ValueError("must be a path such as /edge, of letters, digits, '-', '_', '.' and '~'")
    return path.rstrip("/")


HostName = Annotated[str, AfterValidator(_host_name)]


Origin = Annotated[str, AfterValidator(_origin)]


Network = Annotated[str, AfterValidator(_network)]


class HttpSection(Section):
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; `0.0.0.0` or `::` means all networks. Unless it is a loopback address, "
        "clients need an access token.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8501, description="Port to listen on; 0 lets the system choose one."
    )
    tokens_file: Path | None = Field(
        default=None,
        description="File with the access tokens, made by `edge-agent token create` and read again when it changes. "
        "Default: `tokens` in the state folder.",
    )
    anonymous: bool = Field(
        default=False,
        description="Let everyone who reaches the port do everything, without a token. Without it, only clients on "
        "this machine need no token, and only if `host` is a loopback address, no reverse proxy is configured and no "
        "token exists.",
    )
    hosts: list[HostName] = Field(
        default=[],
        description="Further names under which clients may address the agent; `*` means all. IP addresses, names "
        "without a dot and the names of this machine are always accepted. Any other name is refused, because a web "
        "page can let its own name point to the agent.",
    )
    cors: list[Origin] = Field(
        default=[],
        description="Origins whose web pages may use the agent from a browser, such as `https://shop.example`; `*` "
        "means all pages. They need a token like every other client.",
    )
    trusted_proxies: list[Network] = Field(
        default=[],
        description="Addresses and networks of reverse proxies, such as `127.0.0.1` or `10.0.0.0/8`. Only from them "
        "does `X-Forwarded-For` count.",
    )
    base_path: Annotated[str, AfterValidator(_base_path)] | None = Field(
        default=None,
        description="Path below which a reverse proxy serves the agent, such as `/edge`. It works whether or not the "
        "proxy removes it.",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="Certificate of the agent with its chain, in PEM format; `edge-agent certificate` makes one. With "
        "it, the port takes HTTPS only. The agent reads this file, `tls_key` and `client_ca` again when they change.",
    )
    tls_key: Path | None = Field(
        default=None, description="Private key of `tls_cert`, in PEM format and without a passphrase."
    )
    client_ca: Path | None = Field(
        default=None,
        description="Certificates of the authorities that sign clients' certificates. A client with such a "
        "certificate may do everything without a token; all others need a token, also on this machine.",
    )
    max_upload_bytes: int = Field(
        default=8 << 20, ge=1, description="Maximum size of an uploaded image in bytes, over HTTP and MQTT."
    )
    max_pixels: int = Field(
        default=1 << 24,
        ge=1,
        le=MAX_PIXELS,
        description="Maximum size of an uploaded image in pixels, checked before decoding. A PNG of 109 kB can "
        "decode to 5 GB.",
    )
    header_timeout_s: float = Field(
        default=10,
        ge=1,
        le=3600,
        description="How long a client may take to send the headers of a request, in seconds, counted from the start "
        "of the connection or from the last answer.",
    )
    body_timeout_s: float = Field(
        default=30, ge=1, le=3600, description="How long the body of a request may take to arrive, in seconds."
    )
    per_client: int = Field(
        default=4,
        ge=1,
        description="How many uploads each client address may have in progress at any time. One address may have more "
        "as long as it leaves a quarter of all places, and of the memory for bodies, to others.",
    )

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the agent: the clients of a proxy are elsewhere."""
        return not (self.trusted_proxies or self.base_path) and _is_loopback(self.host)

    def own_url(self) -> str:
        """The URL for programs on this machine."""
        host = _ANY_ADDRESS.get(self.host, self.host)
        return f"{self.scheme}://[{host}]:{self.port}" if ":" in host else f"{self.scheme}://{host}:{self.port}"

    @property
    def scheme(self) -> str:
        return "http" if self.tls_cert is None else "https"


class GrpcSection(Section):
    enabled: bool = Field(
        default=False,
        description="Answer the gRPC clients of TensorFlow Serving, Triton and KServe. Tokens and limits are those of "
        "`http`. With pip, it needs the extra `grpc`.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; `0.0.0.0` or `::` means all networks. Unless it is a loopback address, "
        "clients need an access token.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8500, description="Port to listen on; 0 lets the system choose one."
    )
    max_message_bytes: int = Field(
        default=8 << 20,
        ge=1 << 10,
        le=1 << 28,
        description="Maximum size of a request in bytes. While a large message is parsed, everything else waits.",
    )

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the port."""
        return _is_loopback(self.host)
