"""Changes the cameras of an installed service, also as docs/how-to/cameras.md says, and shows how they are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml
from documents import REPOSITORY, blocks
from system.guest import UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from documents import Block
    from system.guest import Guest

PAGE = REPOSITORY / "docs/how-to/cameras.md"
READY = "curl -sS http://127.0.0.1:8501/readyz | grep '\"ready\":true'"

_CONFIGURATION = "/etc/edge-agent/agent.yaml"
# systemctl gives its editor the file last, and opens it only on a terminal.
_EDIT = """cat >/tmp/editor <<'END'
#!/bin/sh
for file; do :; done
printf '{text}' >"$file"
END
chmod +x /tmp/editor
script --quiet --return --command 'SYSTEMD_EDITOR=/tmp/editor systemctl edit edge-agent' /dev/null </dev/null
rm /tmp/editor
"""


def set_cameras(guest: Guest, cameras: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes them into the configuration, which the service does not read yet."""
    guest.run(f"sed -i 's|^cameras: .*|cameras: {json.dumps(cameras)}|' {_CONFIGURATION}")
    guest.run(f"edge-agent check-config {_CONFIGURATION}")


def wait_for_results(guest: Guest, camera: str, *, count: int = 5) -> None:
    guest.run(f"mosquitto_sub -t edge-agent/+/cameras/{camera}/result -C {count} -W 20")


def capture_processes(guest: Guest) -> set[int]:
    """The process of each live camera that OpenCV reads."""
    main = guest.show("MainPID")
    return {int(pid) for pid in guest.run(f"pgrep -P {main} -f [c]apture_process || true").split()}


def memory_mb(guest: Guest, pid: int | str) -> float:
    """What the process uses itself, with its share of the pages that it has in common with others."""
    return int(guest.run(f"awk '/^Pss:/ {{ print $2 }}' /proc/{pid}/smaps_rollup")) / 1024


def documented_inbox() -> tuple[str, str, dict[str, Any]]:
    """How the page makes an inbox: the command for its folder, the drop-in, and the camera `post`."""
    (folder,) = (line for line in _about_inbox("sh").lines if "/srv/inbox" in line)
    return folder, _about_inbox("ini").text, yaml.safe_load(_about_inbox("yaml").text)["cameras"]


def edit_unit(guest: Guest, drop_in: str) -> None:
    """`systemctl edit edge-agent` by a person who types this."""
    guest.run(_EDIT.format(text=drop_in.replace("\n", "\\n")))


def undo_edit(guest: Guest) -> None:
    guest.run(f"rm /etc/systemd/system/{UNIT}.d/override.conf; systemctl daemon-reload")


def _about_inbox(kind: str) -> Block:
    (block,) = (block for block in blocks(PAGE) if block.kind == kind and "/srv/inbox" in block.text)
    return block
