"""Query: the parameters of a request; one that the route does not know is refused, not ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request


def known_query(request: Request, supported: Iterable[str]) -> dict[str, str]:
    """Raises HTTPException, also for a view without its camera."""
    query = dict(request.query_params)
    unknown = sorted(query.keys() - set(supported))
    if unknown:
        raise HTTPException(400, f"Unknown parameter {unknown[0]}. Supported: {', '.join(supported)}.")
    if "view" in query and "camera" not in query:
        raise HTTPException(400, "view needs camera: views of different cameras may have the same name.")
    return query
