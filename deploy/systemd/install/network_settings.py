"""Prints what an installation from a checkout takes over from its surroundings: index, proxy and certificates.

Each is the NAME=VALUE of an environment, ended by a zero byte. All other settings of pip, in its files and in the
environment, are ignored: they could change what is installed, and where.
"""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path

_OF_PIP = (
    *("index-url", "extra-index-url", "no-index", "find-links", "trusted-host"),
    *("proxy", "cert", "client-cert", "timeout", "default-timeout", "retries"),
)
_OF_OTHERS = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_OF_OTHERS += ("ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle")


def files() -> list[Path]:
    """The configuration files of pip; each overrides those before it."""
    given = os.environ.get("PIP_CONFIG_FILE")
    if given == os.devnull:
        return []
    home = Path(os.environ.get("HOME") or "/root")
    shared = [Path(folder, "pip/pip.conf") for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    own = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "pip/pip.conf")
    found = [*reversed(shared), Path("/etc/pip.conf"), home / ".pip/pip.conf", own]
    return [*found, Path(given)] if given else found


def from_files() -> dict[str, str]:
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in files():
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            print(f"edge-agent: {path} is ignored: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        for name, settings in sections.items():
            for key, value in parser.items(name) if parser.has_section(name) else ():
                settings[key.removeprefix("--").replace("_", "-")] = value
    both = {**sections["global"], **sections["install"]}
    return {key: " ".join(both[key].split()) for key in _OF_PIP if both.get(key)}


def main() -> None:
    given = {_variable(key): value for key, value in from_files().items()}
    allowed = {*map(_variable, _OF_PIP), *_OF_OTHERS, *(name.upper() for name in _OF_OTHERS), "NETRC"}
    given.update((name, value) for name, value in os.environ.items() if name in allowed)
    given.setdefault("NETRC", str(Path(os.environ.get("HOME") or "/root", ".netrc")))
    sys.stdout.write("".join(f"{name}={value}\0" for name, value in given.items()))


def _variable(key: str) -> str:
    return "PIP_" + key.upper().replace("-", "_")


main()
