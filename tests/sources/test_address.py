from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import SourceError
from agent.sources.address import Address, Login, redact

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("rtsp://cam/live", None, ""),
        ("rtsp://admin@cam/live", "admin", ""),
        ("rtsp://admin:secret@cam/live", "admin", "secret"),
        ("rtsp://admin:p%23%2F%3F%5B%40%25@cam/live", "admin", "p#/?[@%"),
        ("rtsp://admin:p@ss[1]@cam/live", "admin", "p@ss[1]"),
        ("rtsp://admin:100%@cam/live", "admin", "100%"),
        ("rtsp://a%40b.de:s:e@cam/live", "a@b.de", "s:e"),
    ],
)
def test_address_splits_the_login_from_the_url(url: str, username: str | None, password: str) -> None:
    address = Address.parse(url)
    assert address.login() == (Login(username, password) if username else None)
    assert address.url == str(address) == "rtsp://cam/live"
    assert Address.parse(address.url_with_login()).login() == address.login()


@pytest.mark.parametrize("password", ["p#ss", "p/ss", "p?ss", "12#4", "a/b#c?d", "#", "/@", "p?a=b"])
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_address_says_that_a_password_must_be_percent_encoded(scheme: str, password: str) -> None:
    with pytest.raises(ValueError, match="must be percent-encoded") as raised:
        Address.parse(f"{scheme}://admin:{password}@cam/live")
    assert "write # as %23, / as %2F, ? as %3F, [ as %5B" in str(raised.value)


def test_address_advises_percent_encoding_when_the_host_may_be_the_start_of_a_password() -> None:
    assert "must be percent-encoded" in Address.parse("rtsp://admin:12/34@cam/live").advice
    assert Address.parse("rtsp://cam/live").advice == ""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rtsp://", "has no host and is not a valid URL"),
        ("http:///x", "has no host and is not a valid URL"),
        ("http://[half", "is not a valid URL"),
        ("http://cam:99999/x", "has a port that is not a number from 1 to 65535"),
        ("rtsp://admin:pass@cam:port/x", "has a port that is not a number from 1 to 65535"),
        (f"rtsp://{'a' * 64}/x", "is not a valid URL"),
        ("http://two words/x", "is not a valid URL"),
        ("htp://cam/x", "has the unknown scheme htp://. Use one of rtsp, rtsps, http"),
        ("file:///srv/a.mp4", "or the path of a file"),
        ("://cam", "is not a valid URL"),
    ],
)
def test_address_refuses_what_is_not_a_url(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Address.parse(url)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("rtsp://cam/x", "cam", 554),
        ("HTTPS://u:p@10.0.0.9/x", "10.0.0.9", 443),
        ("http://[::1]:8080/x", "::1", 8080),
        ("udp://@:5000", "", 5000),
        ("http://cam/snap?user=a@b", "cam", 80),
    ],
)
def test_address_has_the_host_and_port(url: str, host: str, port: int) -> None:
    address = Address.parse(url)
    assert (address.host, address.port) == (host, port)


def test_address_encodes_spaces_and_letters_of_other_alphabets() -> None:
    assert Address.parse("http://cam/a b/ü?x=ü%20#part").url == "http://cam/a%20b/%C3%BC?x=%C3%BC%20"


def test_keys_replace_the_login_of_the_url(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("p#/?[@%\n")
    address = Address.parse("rtsp://old:older@cam/x", username="admin", password_file=secret)
    assert address.login() == Login("admin", "p#/?[@%")
    assert address.url_with_login() == "rtsp://admin:p%23%2F%3F%5B%40%25@cam/x"
    secret.write_text("new", encoding="utf-8-sig")  # as editors on Windows may write it
    assert address.login() == Login("admin", "new")
    secret.unlink()
    with pytest.raises(SourceError, match=r"password_file .*password cannot be read: No such file"):
        address.login()


def test_address_shows_no_secret(tmp_path: Path) -> None:
    address = Address.parse("http://admin:sesame@cam/x?pwd=sesame", username="ali")
    for shown in (str(address), repr(address), f"{address}"):
        assert "sesame" not in shown
        assert "ali" not in shown
    assert str(address) == "http://cam/x?***"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.9:554/live", "rtsp://10.0.0.9:554/live"),
        ("rtsp://admin:secret@cam/live", "rtsp://***@cam/live"),
        ("rtsp://admin:s/e?c@ret@cam/live", "rtsp://***@cam/live"),
        ("http://cam/video?user=admin&pwd=secret", "http://cam/video?***"),
        ("rtsp://cam/user=admin_password=secret_channel=1.sdp", "rtsp://cam/user=***"),
        ("rtsp://cam/live&passwd=secret", "rtsp://cam/live&passwd=***"),
        ("video.mp4", "video.mp4"),
    ],
)
def test_redact_hides_user_password_and_query(url: str, shown: str) -> None:
    assert redact(url) == shown
