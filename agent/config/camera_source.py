"""Source: the keys of the configuration that say where the frames of a camera come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_serializer, model_validator

from agent.config.section import Section
from agent.image import MAX_PIXELS
from agent.sources.address import PORTS, Address, redact
from agent.sources.capture_options import Command
from agent.sources.source import INBOX, MOVE, is_csi, is_file_source, is_inbox, is_url


def _number_as_text(source: Any) -> Any:
    return str(source) if type(source) is int and source >= 0 else source


class FileSource(str):
    """A text that is a path, or one behind a prefix; like every Path, relative to the folder of the configuration."""

    __slots__ = ()
    PREFIX = ""

    @property
    def path(self) -> Path:
        return Path(self.removeprefix(self.PREFIX))

    def with_path(self, path: Path | str) -> FileSource:
        return type(self)(f"{self.PREFIX}{path}")


class InboxSource(FileSource):
    __slots__ = ()
    PREFIX = INBOX


class MoveTo(FileSource):
    __slots__ = ()
    PREFIX = MOVE


def _source(source: str) -> str:
    if not source.strip():
        raise ValueError("must be csi, a camera number, a device, a URL, a file, a folder or an inbox")
    if source.lower().startswith("csi:") and not is_csi(source):
        raise ValueError("must be csi, or csi:1 for the second camera module")
    if is_inbox(source):
        if not source.removeprefix(INBOX).strip():
            raise ValueError("must name a folder, such as inbox:/srv/inbox")
        return InboxSource(source)
    if is_url(source) or source.partition(":")[0].lower() in PORTS:  # rtsp:/camera is not meant as a file
        Address.parse(source)
    return FileSource(source) if is_file_source(source) else source


def _after(after: str) -> str:
    if after in ("keep", "delete"):
        return after
    if not after.startswith(MOVE) or not after.removeprefix(MOVE).strip():
        raise ValueError("must be keep, delete or move:FOLDER")
    return MoveTo(after)


CameraSource = Annotated[
    str, BeforeValidator(_number_as_text), AfterValidator(_source), WithJsonSchema({"type": ["string", "integer"]})
]
After = Annotated[
    str, AfterValidator(_after), WithJsonSchema({"type": "string", "pattern": f"^(keep|delete|{MOVE}.+)$"})
]


def _size(size: Any) -> Any:
    """Reads "1280x720" as (1280, 720)."""
    if size is None or isinstance(size, tuple):
        return size
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", size) if isinstance(size, str) else None
    if found is None:
        raise ValueError("must be width x height in pixels, such as 1280x720")
    return int(found[1]), int(found[2])


Size = Annotated[tuple[int, int] | None, BeforeValidator(_size), WithJsonSchema({"type": "string"})]


def _words(run: Any) -> Any:
    return [str(word) if type(word) in (int, float) else word for word in run] if isinstance(run, list) else run


def _program(run: list[str]) -> list[str]:
    if not run or not run[0]:
        raise ValueError("must start with a program")
    if "/" in run[0] and not run[0].startswith("/"):
        raise ValueError("must start with a program in PATH, or with its full path")
    if any("\0" in word for word in run):
        raise ValueError("must not contain the character NUL")
    return run


class CommandSection(Section):
    run: Annotated[list[str], BeforeValidator(_words), AfterValidator(_program)] = Field(
        description="Program, in PATH or with its full path, and its arguments. Every user of the device can see "
        "them, so they must not contain a password.",
    )
    format: Literal["mjpeg", "bgr24", "i420"] = Field(
        default="mjpeg",
        description="What it writes: JPEGs (`mjpeg`), or pixels without anything between the frames.",
    )
    size: Size = Field(default=None, description="Width x height of the pixels, for `bgr24` and `i420`.")

    @field_serializer("run", when_used="json")
    def _without_passwords(self, run: list[str]) -> list[str]:
        return [redact(word) for word in run]

    @field_serializer("size", when_used="json")
    def _as_written(self, size: tuple[int, int] | None) -> str | None:
        return _written(size)

    @model_validator(mode="after")
    def _pixels_have_a_size(self) -> CommandSection:
        if self.format == "mjpeg":
            if self.size is not None:
                raise ValueError("has the key size, but a JPEG says its own size; remove the key")
            return self
        if self.size is None:
            raise ValueError(f"has the format {self.format}, but no size; add it, such as size: 640x480")
        if self.size[0] * self.size[1] > MAX_PIXELS:
            raise ValueError(f"has a size of more than {MAX_PIXELS} pixels; choose a smaller one")
        if self.format == "i420" and (self.size[0] % 2 or self.size[1] % 2):
            raise ValueError("has the format i420, whose width and height are even numbers; correct the size")
        return self


def _written(size: tuple[int, int] | None) -> str | None:
    return f"{size[0]}x{size[1]}" if size else None


class SourceSection(Section):
    source: CameraSource = Field(
        default="",  # with a command
        description="`csi` (the camera module of a Raspberry Pi or a Jetson), camera number, device, URL (`rtsp://`, "
        "`http://`, `https://`), video file, folder of images, or `inbox:FOLDER`: a folder into which other programs "
        "put images, each of which is classified once.",
        examples=["/dev/video0"],
    )
    command: CommandSection | None = Field(
        default=None, description="Instead of `source`: a program that writes frames to its standard output."
    )
    username: str | None = Field(
        default=None, description="User name of a camera with a URL. It replaces the one in the URL."
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the camera's password, so that this file contains no secret and no character needs "
        "percent-encoding. The agent reads it at each connection.",
    )
    size: Size = Field(
        default=None,
        description="Width x height that a V4L2 device is asked for; it takes the nearest. Default: the driver's. "
        "A CSI camera scales to it; default: 1280x720.",
        examples=["1280x720"],
    )
    fps: float | None = Field(
        default=None,
        gt=0,
        description="Frames per second that a V4L2 device or a CSI camera is asked for. Default: the driver's.",
        examples=[30],
    )
    format: Literal["mjpeg", "yuyv"] | None = Field(
        default=None,
        description="Format that a V4L2 device is asked for. `mjpeg` saves USB bandwidth. Default: `mjpeg` if `size` "
        "is larger than 640x480 and the device offers it, else the driver's.",
    )
    controls: dict[str, int] = Field(
        default={},
        description="Controls of a V4L2 device, set in this order before it is opened; see `edge-agent cameras`.",
        examples=[{"exposure_time_absolute": 300}],
    )
    transport: Literal["tcp", "udp"] = Field(
        default="tcp", description="Transport of an `rtsp://` camera. UDP loses packets, which damages pictures."
    )
    after: After = Field(
        default="keep",
        description="What happens to an image of an inbox once its answer is written: keep, delete or `move:FOLDER`. "
        "A move overwrites nothing.",
        examples=["move:/srv/done"],
    )

    @property
    def origin(self) -> str | Command:
        """Where the frames come from: `source` or `command`."""
        command = self.command
        return Command(tuple(command.run), command.format, command.size) if command else self.source

    @field_serializer("size", when_used="json")
    def _as_written(self, size: tuple[int, int] | None) -> str | None:
        return _written(size)

    @field_serializer("source", when_used="json")
    def _without_password(self, source: str) -> str | None:
        return redact(source) if is_url(source) else source or None

    @model_validator(mode="after")
    def _is_read_in_one_way(self) -> SourceSection:
        if not self.source and self.command is None:
            raise ValueError("has neither the key source nor the key command; add one")
        if self.command is None:
            return self
        others = ("source", "username", "password_file", "size", "fps", "format", "controls", "transport", "after")
        given = [key for key in others if getattr(self, key) != type(self).model_fields[key].default]
        if given:
            raise ValueError(f"has the keys command and {given[0]}, which exclude each other; remove one")
        return self

    @model_validator(mode="after")
    def _login_needs_a_url(self) -> SourceSection:
        given = [key for key in ("username", "password_file") if getattr(self, key) is not None]
        if given and not is_url(self.source):
            raise ValueError(f"has the key {given[0]}, but its source is not a URL; remove the key")
        if self.password_file and not Address.parse(self.source, username=self.username).has_username:
            raise ValueError("has the key password_file, but no username; add it")
        return self

    @model_validator(mode="after")
    def _only_a_device_has_a_size(self) -> SourceSection:
        given = [key for key in ("size", "fps", "format", "controls") if getattr(self, key)]
        if given and (is_url(self.source) or is_inbox(self.source) or is_file_source(self.origin)):
            raise ValueError(f"has the key {given[0]}, but its source is not a V4L2 device; remove the key")
        if is_csi(self.source) and (of_v4l2 := [key for key in ("format", "controls") if getattr(self, key)]):
            raise ValueError(f"has the key {of_v4l2[0]}, which a CSI camera does not have; remove the key")
        if self.transport != "tcp" and not self.source.lower().startswith(("rtsp://", "rtsps://")):
            raise ValueError("has the key transport, but its source is not an rtsp:// URL; remove the key")
        return self

    @model_validator(mode="after")
    def _after_needs_an_inbox(self) -> SourceSection:
        if self.after != "keep" and not is_inbox(self.source):
            raise ValueError(f"has the key after, but its source is not an inbox; write {INBOX}FOLDER, or remove it")
        return self
