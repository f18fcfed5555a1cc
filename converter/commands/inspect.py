"""The command `edge-convert inspect`: shows a trained model and whether it can be converted for a device."""

from __future__ import annotations

from agent.host.terminal import print_json
from converter.commands.options import AllowCode, Debug, InputSize, Json, SourcePath, parse_size
from converter.terminal import print_inspection, terminal


def inspect(
    saved_model: SourcePath,
    input_size: InputSize = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the signatures of a trained model, and whether it can become an image classifier on a device."""
    from converter.inspection import inspect_source

    size = parse_size(input_size)
    with terminal(debug=debug) as track:
        document = inspect_source(saved_model, size=size, allow_code=allow_code, track=track)
    if as_json:
        print_json(document)
    else:
        print_inspection(document)
