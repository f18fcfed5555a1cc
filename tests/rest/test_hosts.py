"""Names of the agent that change; tests/rest/test_refused_requests.py has the other cases, over real connections."""

from __future__ import annotations

from agent.rest.hosts import Hosts


def test_new_name_of_this_machine_is_accepted_without_a_restart() -> None:
    names, reads, now_s = {"pi-1.lan"}, [], [0.0]

    def read() -> set[str]:
        reads.append(now_s[0])
        return set(names)

    hosts = Hosts(names=read, clock=lambda: now_s[0])
    assert hosts.refusal([b"pi-1.lan"], "1.1") is None
    names.add("pi-2.lan")
    now_s[0] = 5.0
    assert hosts.refusal([b"PI-2.lan:8501"], "1.1") is None
    for _ in range(100):  # the files are not read again for each foreign name
        assert hosts.refusal([b"evil.example"], "1.1") is not None
        assert hosts.refusal([b"pi-1.lan"], "1.1") is None
    assert reads == [0.0, 5.0]


def test_many_spellings_of_right_names_are_accepted_in_bounded_memory() -> None:
    hosts = Hosts(["edge.example"])
    for port in range(2000):
        assert hosts.refusal([b"edge.example:%d" % port], "1.1") is None
    assert len(hosts._accepted) < 1000
