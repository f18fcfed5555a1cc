from __future__ import annotations

from typing import Any

import httpx
import pytest
from agents.fake_agent import FakeModels, birds, identity, rest_app, served, version
from agents.models_on_disk import DIGITS

from agent.status import Rejection


@pytest.fixture
def models() -> FakeModels:
    """Version 2 of birds is stable, 4 is the canary, 3 was withdrawn, 1 is good; the last file was rejected."""
    status = birds(
        canary=identity(4),
        rejection=Rejection("birds.tflite", "The file is empty.", 0),
        versions=(
            version(4, "canary"),
            version(3, "rejected", "It answered with NaN."),
            version(2, "serving"),
            version(1),
        ),
    )
    models = FakeModels(status)
    models.served["birds"] = served(DIGITS, 2, name="birds")
    models.canaries["birds"] = served(DIGITS, 4, name="birds")
    return models


async def get(models: FakeModels, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(rest_app(models)), base_url="http://test") as client:
        return await client.get(path)


async def versions(models: FakeModels, path: str = "") -> list[tuple[str, ...]]:
    """The number, state, code and message of each version."""
    document: dict[str, Any] = (await get(models, f"/v1/models/birds{path}")).json()
    return [
        (each["version"], each["state"], each["status"]["error_code"], each["status"]["error_message"])
        for each in document["model_version_status"]
    ]


STABLE, CANARY, GOOD = ("2", "AVAILABLE", "OK", ""), ("4", "AVAILABLE", "OK", ""), ("1", "END", "OK", "")
WITHDRAWN = ("3", "END", "FAILED_PRECONDITION", "It answered with NaN.")
REFUSED = ("0", "END", "FAILED_PRECONDITION", "The file is empty.")


@pytest.mark.anyio
async def test_models_are_listed(models: FakeModels) -> None:
    assert (await get(models, "/v1/models")).json() == {"models": [models.statuses[0].to_json()]}


@pytest.mark.anyio
async def test_every_version_is_listed_with_its_state(models: FakeModels) -> None:
    assert await versions(models) == [STABLE, CANARY, WITHDRAWN, GOOD, REFUSED]


@pytest.mark.anyio
async def test_each_version_is_found_by_its_number(models: FakeModels) -> None:
    for each in (STABLE, CANARY, WITHDRAWN, GOOD, REFUSED):
        assert await versions(models, f"/versions/{each[0]}") == [each]


@pytest.mark.anyio
async def test_new_version_is_loading_from_its_arrival_until_it_serves(models: FakeModels) -> None:
    new = {"serving": None, "since_ns": None, "candidate": "birds-1.tflite"}
    models.statuses[0] = birds(versions=(), **new)
    assert await versions(models) == [("0", "LOADING", "OK", "")]
    models.statuses[0] = birds(versions=(version(1),), **new)
    assert await versions(models) == [("1", "LOADING", "OK", "")]


@pytest.mark.anyio
async def test_labels_select_the_stable_version_and_the_canary(models: FakeModels) -> None:
    assert await versions(models, "/labels/stable") == [STABLE]
    assert await versions(models, "/labels/canary") == [CANARY]


@pytest.mark.anyio
async def test_metadata_describes_the_tensors(models: FakeModels) -> None:
    signature = (await get(models, "/v1/models/birds/metadata")).json()["metadata"]["signature_def"]["signature_def"]
    inputs, outputs = signature["serving_default"]["inputs"], signature["serving_default"]["outputs"]
    assert (inputs["image"]["name"], inputs["image"]["dtype"]) == ("serving_default_image:0", "DT_UINT8")
    assert [side["size"] for side in inputs["image"]["tensor_shape"]["dim"]] == ["-1", "32", "32", "1"]
    assert (outputs["output_0"]["name"], outputs["output_0"]["dtype"]) == ("StatefulPartitionedCall:0", "DT_FLOAT")
    assert [side["size"] for side in outputs["output_0"]["tensor_shape"]["dim"]] == ["-1", "10"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/metadata", "2"),
        ("/versions/2/metadata", "2"),
        ("/versions/4/metadata", "4"),
        ("/labels/stable/metadata", "2"),
        ("/labels/canary/metadata", "4"),
    ],
)
async def test_metadata_is_of_the_requested_version(models: FakeModels, path: str, number: str) -> None:
    document = (await get(models, f"/v1/models/birds{path}")).json()
    assert document["model_spec"] == {"name": "birds", "signature_name": "", "version": number}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "code", "sentence"),
    [
        ("/versions/9", 404, "Model birds has no version 9. GET /v1/models/birds lists its versions."),
        ("/versions/3/metadata", 404, "Model birds is not serving version 3."),
        ("/labels/canary", 400, "Model birds currently has no canary version."),
        ("/labels/canary/metadata", 400, "Model birds currently has no canary version."),
        ("/labels/latest", 400, "Model birds has no label latest. Use stable or canary."),
    ],
)
async def test_version_that_does_not_serve_gets_the_code_of_tensorflow_serving(
    models: FakeModels, path: str, code: int, sentence: str
) -> None:
    models.canaries.clear()
    answer = await get(models, f"/v1/models/birds{path}")
    assert (answer.status_code, answer.json()) == (code, {"error": sentence})


@pytest.mark.anyio
async def test_model_that_does_not_serve_has_no_metadata(models: FakeModels) -> None:
    models.served.clear()
    assert (await get(models, "/v1/models/birds/metadata")).json() == {
        "error": "Model birds currently has no stable version."
    }
    for path in ("", "/metadata", "/versions/1", "/versions/1/metadata", "/labels/stable"):
        assert (await get(models, f"/v1/models/cats{path}")).json()["error"].startswith("Model cats does not exist.")
