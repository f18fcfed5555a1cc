"""The agent answers as its OpenAPI description says, to requests that fit the description and to others."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st

from agent.security.tokens import create_token

pytestmark = pytest.mark.long

requests = pytest.importorskip("requests")
schemathesis = pytest.importorskip("schemathesis", reason="Schemathesis needs Python 3.11")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODES = schemathesis.GenerationMode
_CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
_EXISTING = {
    "name": "digits",
    "version": "1",
    "label": "stable",
    "camera": "front",
    "view": "door",
    "event": "none",
    "frame": "0" * 26,
}
_ANSWERED = (  # some others need more than a generated request: a canary, or tensors of the model's shape
    *("POST /predict", "POST /predict_async", "POST /batch_predict", "POST /api/models/{name}/pin"),
    *("GET /v1/models/{name}/versions/{version}/metadata", "GET /v1/models/{name}/labels/{label}", "GET /metrics"),
    *("GET /api/events", "GET /api/events/counts", "GET /api/events.csv"),
)
_STREAMS = ("/api/live", "stream.mjpg")  # answers without an end
_EXAMPLES = 20 if os.environ.get("CI") == "true" else 10  # per operation and mode

_bounded = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


class Described:
    """Sends generated requests with a token, and compares the answers with the description."""

    def __init__(self, agent: RunningAgent, token: str) -> None:
        self.codes: dict[str, set[int]] = {}
        self._agent = agent
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"
        document = self._session.get(f"{agent.url}/openapi.json", timeout=10).json()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["security"] = []  # no wrong tokens: tests/rest/test_access.py sends them
        self._token = token
        self._schema = schemathesis.openapi.from_dict(document)

    def operations(self, mode: str) -> Iterator[Any]:
        for found in self._schema.get_all_operations():
            operation = found.ok()
            # Every text fits a parameter of a path, so without a body, nothing is wrong.
            if operation.path.endswith(_STREAMS):
                continue
            if mode == _MODES.POSITIVE or "requestBody" in operation.definition.raw:
                yield operation

    def check(self, case: Any, *, exists: bool) -> None:
        """`exists`: the request names an existing model and version, and sends a real picture."""
        if exists:
            case.path_parameters.update({name: _EXISTING[name] for name in case.path_parameters})
            if case.media_type in ("image/*", "application/octet-stream"):
                case.body = digit_png()
            elif case.operation.path.endswith("/pin"):
                case.body = {"version": 1}
        if isinstance(case.body, dict) and list(case.body) == ["token"] and isinstance(case.body["token"], str):
            case.body = {"token": self._token}  # each wrong one of the right form is slowed down
        answer = case.call(base_url=self._agent.url, session=self._session)
        self.codes.setdefault(case.operation.label, set()).add(answer.status_code)
        # In a form, a list of one file and a file are the same.
        rejection = [checks.negative_data_rejection] if case.media_type == "application/json" else []
        case.validate_response(answer, checks=[*_CHECKS, *rejection])


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    """The model has a second version, so that requests can go back to the first, which then serves."""
    folder = tmp_path_factory.mktemp("agent")
    with RunningAgent(folder, http={"max_upload_bytes": 100_000}, events={"enabled": True}) as agent:
        for version in ("1", "2"):
            agent.drop(model_file(int(version)), checksum=True)
            wait_until(partial(_serves, agent, version), what=f"version {version} serves")
        yield Described(agent, create_token(folder / "state" / "tokens", "tests", "admin"))
        assert "Traceback" not in agent.log


def _serves(agent: RunningAgent, version: str) -> bool:
    return ((agent.model().get("serving") or {}).get("version")) == version


@pytest.mark.parametrize("mode", _MODES)
def test_answers_are_as_described(described: Described, mode: str) -> None:
    for operation in described.operations(mode):

        @seed(17)
        @_bounded
        @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
        def check(case: Any, *, exists: bool) -> None:
            described.check(case, exists=exists)

        check()
    if mode == _MODES.POSITIVE:
        assert [label for label in _ANSWERED if 200 not in described.codes[label]] == []
    assert 503 not in set.union(*described.codes.values())
