"""The official description of the Open Inference Protocol, in ../shared/protocols, holds for the agent's answers."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from agents.inferring import Inferring
from conftest import PROTOCOLS
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from peers.web_server import serving

requests = pytest.importorskip("requests")
schemathesis = pytest.importorskip("schemathesis", reason="Schemathesis needs Python 3.11")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.long, pytest.mark.protocols]

_MODES = schemathesis.GenerationMode
_EXISTING = {"MODEL_NAME": "colors", "MODEL_VERSION": "2"}
_RED = {"name": "image", "shape": [1, 4, 4, 3], "datatype": "FP32", "data": [1.0, 0.0, 0.0] * 16}
_SCHEMA_CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = Inferring()
    with closing(app.engine), serving(app.app) as port:
        yield port


def operations() -> list[Any]:
    """The official file writes ${MODEL_NAME} where OpenAPI has {MODEL_NAME}."""
    text = (PROTOCOLS / "open_inference_rest.yaml").read_text().replace("${", "{")
    schema = schemathesis.openapi.from_dict(yaml.safe_load(text))
    found = [each.ok() for each in schema.get_all_operations()]
    assert len(found) == 6
    return found


def send(operation: Any, port: int, mode: Any = _MODES.POSITIVE, *, exists: bool = True) -> set[int]:
    """The codes that the agent answered to generated requests."""
    codes: set[int] = set()

    @seed(18)
    @settings(
        max_examples=20 if operation.body else 3,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )
    @given(case=operation.as_strategy(generation_mode=mode), fits=st.booleans())
    def check(case: Any, *, fits: bool) -> None:
        if exists:
            case.path_parameters.update({name: _EXISTING[name] for name in case.path_parameters})
        if fits and isinstance(case.body, dict):
            case.body["inputs"] = [_RED]
            case.body.pop("outputs", None)
        answer = case.call(base_url=f"http://127.0.0.1:{port}", session=session)
        codes.add(answer.status_code)
        if exists:
            case.validate_response(answer, checks=[*_SCHEMA_CHECKS, checks.status_code_conformance])
        elif answer.status_code >= 400:
            assert list(answer.json()) == ["error"]

    with requests.Session() as session:
        session.trust_env = False
        check()
    return codes


def test_existing_model_is_answered_as_described(port: int) -> None:
    for operation in operations():
        assert send(operation, port) == ({200, 400} if operation.body else {200})


def test_request_that_contradicts_the_description_is_refused(port: int) -> None:
    (infer,) = [operation for operation in operations() if operation.body]
    assert send(infer, port, _MODES.NEGATIVE) <= {200, 400}


def test_unknown_model_is_not_found(port: int) -> None:
    for operation in operations():
        if "MODEL_NAME" in operation.path:
            assert send(operation, port, exists=False) <= {400, 404}
