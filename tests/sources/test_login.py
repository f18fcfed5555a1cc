from __future__ import annotations

import pytest

from agent.sources.address import Login
from agent.sources.login import authorization, strongest


def test_digest_is_the_one_of_the_standard() -> None:
    """RFC 2069's form, as in RFC 2617 3.5 without qop; computed here by hand."""
    challenge = strongest(['Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'])
    assert challenge is not None
    answer = authorization(challenge, Login("Mufasa", "Circle Of Life"), path="/dir/index.html", count=1)
    assert 'response="670fd8c2df070c60b045671b8b24ff02"' in answer


@pytest.mark.parametrize(
    "headers", [[], [""], ["Negotiate"], ['Digest realm="x", algorithm=SHA-512-256'], ["x" * 9999]]
)
def test_unknown_scheme_is_not_answered(headers: list[str]) -> None:
    assert strongest(headers) is None
