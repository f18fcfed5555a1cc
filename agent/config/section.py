"""Section: what every section of the configuration has in common: unknown keys are refused, null means the default."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator


def _topic_level(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError("may only contain letters, digits, '_', '-' and '.', because it becomes part of an MQTT topic")
    return name


Name = Annotated[str, AfterValidator(_topic_level)]


def without_nulls(document: Any, section: type[BaseModel]) -> Any:
    if not isinstance(document, dict):
        return document
    return {key: value for key, value in document.items() if value is not None or key not in section.model_fields}


def allow_nulls(schema: dict[str, Any]) -> None:
    """Says to editors what without_nulls does."""
    properties = schema.get("properties", {})
    for name in properties.keys() - schema.get("required", []):
        schema["properties"][name] = {
            **{key: properties[name][key] for key in ("default", "description", "examples") if key in properties[name]},
            "anyOf": [properties[name], {"type": "null"}],
        }


def off_as_text(value: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=allow_nulls)

    @model_validator(mode="before")
    @classmethod
    def _null_means_the_default(cls, document: Any) -> Any:
        return without_nulls({} if document is None else document, cls)
