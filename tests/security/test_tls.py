from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peers.certificates import Authority, Certificate, encrypt_key

from agent.errors import ConfigError
from agent.security.tls import Tls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def _tls(certificate: Certificate) -> Tls:
    return Tls(certificate.ca_file, certificate.cert_file, certificate.key_file, section="mqtt")


@pytest.mark.parametrize(
    ("setting", "damage", "words"),
    [
        ("ca_file", Path.unlink, "mqtt.ca_file {ca_file} cannot be read: No such file or directory."),
        ("cert_file", Path.unlink, "mqtt.cert_file {cert_file} cannot be read: No such file or directory."),
        ("key_file", Path.unlink, "mqtt.key_file {key_file} cannot be read: No such file or directory."),
        ("ca_file", "empty", "mqtt.ca_file {ca_file} contains no certificate in PEM format."),
        ("cert_file", "empty", "mqtt.cert_file {cert_file} contains no certificate in PEM format."),
        ("key_file", "empty", "mqtt.key_file {key_file} contains no private key in PEM format."),
        ("ca_file", "cut", "mqtt.ca_file {ca_file} is damaged. Copy it again."),
        ("cert_file", "cut", "{cert_file} or mqtt.key_file {key_file} is damaged or encrypted"),
        ("key_file", encrypt_key, "is damaged or encrypted. Copy both again, and use a key without a passphrase."),
        ("key_file", "other", "mqtt.key_file {key_file} is not the key of mqtt.cert_file {cert_file}. Give"),
    ],
)
def test_unusable_file_is_a_configuration_error_that_names_it(
    setting: str, damage: Any, words: str, authority: Authority
) -> None:
    certificate = authority.sign("pi-1")
    file: Path = getattr(certificate, setting)
    if damage == "empty":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    elif damage == "other":
        shutil.copy(authority.sign("other").key_file, file)
    else:
        damage(file)
    with pytest.raises(ConfigError) as raised:
        _tls(certificate).context()
    names = {name: getattr(certificate, name) for name in ("ca_file", "cert_file", "key_file")}
    assert words.format(**names) in str(raised.value)


def test_certificate_and_key_may_be_in_one_file(authority: Authority) -> None:
    certificate = authority.sign("pi-1")
    certificate.cert_file.write_bytes(certificate.cert_file.read_bytes() + certificate.key_file.read_bytes())
    replace(_tls(certificate), key_file=None).context()
