"""Openapi: what the OpenAPI document says about the answers of the routes; tests compare the answers with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    Json: TypeAlias = dict[str, Any]

_MEANINGS = {
    "400": "The request is malformed.",
    "401": "The access token is missing, wrong or revoked.",
    "403": "The access token does not have the scope that the route needs, or another web page sent the request.",
    "404": "The model, the version, the camera, the profile, the event or the frame does not exist.",
    "408": "The request did not arrive in time.",
    "409": "The version cannot be chosen.",
    "413": "The body or the image is too large.",
    "415": "The body has another format, or is compressed.",
    "421": "The Host header names another server.",
    "422": "The image cannot be decoded.",
    "429": "Too many requests with wrong access tokens. Retry after the seconds in Retry-After.",
    "431": "The headers are too large.",
    "503": "The agent is busy or stopping, or no model serves. Retry after the seconds in Retry-After.",
}
_EVERYWHERE = ("400", "408", "421", "431", "503")
_WITH_SCOPE = ("401", "403", "429")

SECURITY_SCHEMES = {"token": {"type": "http", "scheme": "bearer", "description": "Made by edge-agent token create."}}


def answers(schema: str, *codes: int) -> Json:
    """The `responses` of a route: 200 with a schema of this module, and the errors that not every route has."""
    return {"200": _content(_ref(schema)), **errors(*codes)}


def errors(*codes: int) -> Json:
    """The same for a route whose protocol defines its answers."""
    return {str(code): _error(code) for code in codes}


def path_parameters(*names: str) -> list[Json]:
    """The `parameters` of a route whose endpoint takes only the request."""
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def media(media_type: str, description: str) -> Json:
    """The `responses` of a route that answers with something else than JSON."""
    return {"200": {"content": {media_type: {"schema": _TEXT}}, "description": description}}


def described(openapi: Callable[[], Json]) -> Json:
    """The document of FastAPI with the schemas, the access tokens and the errors that every route may answer."""
    document = openapi()
    document.setdefault("components", {}).update(schemas=_SCHEMAS, securitySchemes=SECURITY_SCHEMES)
    for operations in document["paths"].values():
        for operation in operations.values():
            codes = _EVERYWHERE + _WITH_SCOPE * bool(operation["security"])
            found = operation["responses"].items()
            own = {code: answer for code, answer in found if "HTTPValidationError" not in str(answer)}  # FastAPI's 422
            operation["responses"] = {**{code: _error(code) for code in codes}, **own}
    return document


def _content(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def _error(code: int | str) -> Json:
    return {"description": _MEANINGS[str(code)], **_content({"$ref": "#/components/schemas/Error"})}


def _object(*, optional: Json | None = None, **properties: Json) -> Json:
    """`optional` has the properties that may be missing."""
    return {"type": "object", "properties": properties | (optional or {}), "required": list(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


READINESS = {  # not ready, or an error
    **answers("Readiness"),
    "503": {"description": _MEANINGS["503"], **_content({"anyOf": [_ref("Readiness"), _ref("Error")]})},
}

_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_NUMBER: Json = {"type": "number"}
_SCORE: Json = {"type": "number", "minimum": 0, "maximum": 1}
_TIME: Json = {"type": "string", "format": "date-time"}
_VERSION: Json = {"type": "string", "pattern": "^[0-9]+$"}

_RESULT: Json = {
    "id": _TEXT,
    "seq": _COUNT,
    "boot": _TEXT,
    "device": _TEXT,
    "source": _TEXT,
    "captured_at": _TIME,
    "model": _ref("Model"),
    "categories": _list(_object(index=_COUNT, label=_TEXT, score=_SCORE)),
    "timing_ms": _object(decode=_NUMBER, preprocess=_NUMBER, invoke=_NUMBER, total=_NUMBER),
}
_CLOCK: Json = {"time_synced": {"const": False, "description": "The clock is not set yet: `captured_at` is wrong."}}
_VIEW: Json = {"view": {"type": "string", "description": "The view of the camera, if it has named ones."}}
_VIEW_STATE: Json = {
    "model": _or_null(_TEXT),
    "stable": _or_null(_ref("State")),
    "result": _or_null(_ref("CameraResult")),
}
_HEALTH: Json = {"ready": _FLAG, "reasons": _list(_TEXT), "warnings": _list(_TEXT)}

_SCHEMAS: Json = {
    "Error": _object(error={"type": "string", "description": "What is wrong, and what to do."}),
    "Model": _object(name=_TEXT, version=_VERSION, sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"}),
    "Result": _object(
        **_RESULT,
        class_id=_or_null(_COUNT),
        label=_or_null(_TEXT),
        confidence=_or_null(_SCORE),
        optional=_CLOCK,
    ),
    "Results": _list({"anyOf": [_ref("Result"), _ref("Error")]}),
    "ModelStatus": _object(
        name=_TEXT,
        serving=_or_null(_ref("Model")),
        since=_or_null(_TIME),
        candidate=_or_null(_TEXT),
        trying=_FLAG,
        rejection=_or_null(_object(file=_TEXT, reason=_TEXT, at=_TIME)),
        probation=_FLAG,
        pinned=_or_null(_VERSION),
        canary=_or_null(_ref("Model")),
        versions=_list(
            _object(
                version=_VERSION,
                sha256=_TEXT,
                state={"enum": ["serving", "canary", "admitted", "rejected"]},
                file=_TEXT,
                admitted_at=_TIME,
                reason=_or_null(_TEXT),
            )
        ),
        runtime=_or_null(_TEXT),
        accelerator={"enum": ["cpu", "gpu", "edgetpu", None]},
        accelerator_reason=_or_null(_TEXT),
    ),
    "Models": _object(models=_list(_ref("ModelStatus"))),
    "Session": _object(needs_token=_FLAG, scope={"enum": ["read", "infer", "admin", None]}),
    "CameraResult": _object(**_RESULT, optional={**_CLOCK, **_VIEW}),
    "State": _object(
        camera=_TEXT,
        optional=_VIEW,
        label=_or_null(_TEXT),
        score=_or_null(_SCORE),
        since=_TIME,
        model=_ref("Model"),
        class_id=_or_null(_COUNT),
        previous=_or_null(_TEXT),
    ),
    "Camera": _object(
        name=_TEXT,
        state={"enum": ["starting", "online", "lost", "frozen", "disabled", "ended"]},
        reason=_or_null(_TEXT),
        enabled=_FLAG,
        health=_or_null(_object(state={"enum": ["ok", "covered", "blurred", "moved"]}, reason=_or_null(_TEXT))),
        has_picture=_FLAG,
        optional={**_VIEW_STATE, "views": _list(_object(name=_TEXT, **_VIEW_STATE))},
    ),
    "Cameras": _object(cameras=_list(_ref("Camera"))),
    "Event": _object(
        id=_TEXT,
        type={"enum": ["begin", "update", "end"]},
        camera=_TEXT,
        label=_TEXT,
        started_at=_TIME,
        ended_at=_or_null(_TIME),
        duration_s=_NUMBER,
        model=_ref("Model"),
        best=_ref("CameraResult"),
        frame=_or_null(_TEXT),
        optional={"view": _TEXT},
    ),
    "Events": _object(events=_list(_ref("Event"))),
    "EventCounts": _object(counts=_list(_object(hour=_TIME, label=_TEXT, events=_COUNT))),
    "Collection": _object(
        frames=_list(_object(id=_TEXT, camera=_TEXT, view=_or_null(_TEXT), bytes=_COUNT)), count=_COUNT, bytes=_COUNT
    ),
    "Deleted": _object(deleted=_COUNT),
    "Profile": _object(active=_or_null(_TEXT), chosen=_TEXT, profiles=_list(_TEXT)),
    "Stats": _object(
        at=_TIME,
        uptime_s=_NUMBER,
        frames_per_s={"type": "object", "additionalProperties": _NUMBER},
        uploads_per_s=_NUMBER,
        latency_ms=_object(p50=_or_null(_NUMBER), p95=_or_null(_NUMBER), p99=_or_null(_NUMBER)),
        temperature_celsius=_or_null(_NUMBER),
        throttled=_or_null(_FLAG),
        rss_bytes=_COUNT,
        optional={"skipped": {"type": "object", "additionalProperties": _NUMBER}},
    ),
    "Overview": _object(
        device=_object(id=_TEXT, version=_TEXT, hardware=_or_null(_TEXT), started_at=_TIME, at=_TIME),
        cameras=_list(_ref("Camera")),
        profile=_or_null(_ref("Profile")),
        models=_list(_ref("ModelStatus")),
        mqtt=_or_null({"type": "object"}),
        stats=_or_null(_ref("Stats")),
        timeline=_list(_ref("State")),
        records_events=_FLAG,
        **_HEALTH,
    ),
    "VersionStatuses": _object(
        model_version_status=_list(
            _object(
                version=_VERSION,
                state={"enum": ["AVAILABLE", "LOADING", "END"]},
                status=_object(error_code={"enum": ["OK", "FAILED_PRECONDITION"]}, error_message=_TEXT),
            )
        )
    ),
    "Metadata": _object(
        model_spec=_object(name=_TEXT, signature_name=_TEXT, version=_VERSION),
        metadata=_object(signature_def=_object(signature_def={"type": "object"})),
    ),
    "Liveness": _object(status={"const": "ok"}),
    "Readiness": {
        "type": "object",
        "properties": {**_HEALTH, "mqtt": _or_null({"type": "object"})},
        "required": ["ready"],
    },
}
