from __future__ import annotations

from peers.onvif_camera import OnvifCamera, onvif_camera

from agent.sources.discovery import announced_in, discover


def _answer(**changes: str) -> bytes:
    text = OnvifCamera("Yard", 8080).match("uuid:1").decode()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def test_camera_in_the_network_is_found_once_with_its_name() -> None:
    with onvif_camera("Barn%20door") as camera:
        found = [each for each in discover(wait_s=1.2) if each.port == camera.port]
    (each,) = found
    assert (each.address, each.scheme, each.name) == ("127.0.0.1", "http", "Barn door IPC-1")


def test_login_goes_only_to_the_sender_of_the_answer() -> None:
    (camera,) = announced_in(_answer(), "192.168.1.30")  # which names 192.0.2.1 and 127.0.0.1
    assert (camera.address, camera.port) == ("192.168.1.30", 8080)


def test_answer_that_is_not_usable_is_ignored() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    with_dtd = _answer().replace(b"?>", b"?><!DOCTYPE x SYSTEM 'file:///etc/passwd'>", 1)
    assert announced_in(_answer(), "192.168.1.30")
    for answer in (
        bomb,
        with_dtd,
        b"",
        b"\xff\xfe not XML",
        _answer()[:-20],
        _answer() + b" " * 16384,
        _answer(http="ftp"),
        _answer(**{":8080/": ":70000/"}),
        _answer(XAddrs="Addresses"),
    ):
        assert announced_in(answer, "192.168.1.30") == [], answer


def test_text_of_an_answer_is_bounded() -> None:
    (camera,) = announced_in(_answer(Yard="x" * 10_000), "192.168.1.30")
    assert camera.name == "camera"
