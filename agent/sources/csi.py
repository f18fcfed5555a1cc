"""CSI: a camera module on the ribbon connector of a Raspberry Pi or a Jetson, read by the programs of its maker."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from agent.errors import SourceError
from agent.sources.capture_options import Command
from agent.sources.command import CommandCamera
from agent.sources.devices import csi_stack

if TYPE_CHECKING:
    from agent.sources.capture_options import CaptureOptions
    from agent.sources.devices import CsiStack
    from agent.sources.feed import Feed

NO_STACK = (
    "No program for CSI cameras is installed. On a Raspberry Pi: sudo apt install rpicam-apps-lite. "
    "On a Jetson: sudo apt install gstreamer1.0-tools nvidia-l4t-gstreamer."
)
_SIZE = 1280, 720  # a Jetson would give the largest of its sensor, and some Pi cameras cut the picture at 640x480
_QUALITY = "85"
_ADVICE = {
    "rpicam-vid": "Check the cable, also with `rpicam-hello --list-cameras`, and stop programs that use it.",
    "libcamera-vid": "Check the cable, also with `libcamera-hello --list-cameras`, and stop programs that use it.",
    "nvarguscamerasrc": "Check the cable, and restart its service: sudo systemctl restart nvargus-daemon edge-agent.",
}


class CsiCamera:
    """The number behind `csi:` counts the modules of the board."""

    def __init__(self, source: str, options: CaptureOptions) -> None:
        self.name = source
        self._number = int(source.partition(":")[2] or 0)
        self._options = options
        self._program: CommandCamera | None = None

    def open(self) -> Feed:
        stack = csi_stack()
        if stack is None:
            raise SourceError(NO_STACK)
        command = csi_command(stack[0], self._number, self._options)
        self._program = CommandCamera(command, name=self.name, advice=_ADVICE[stack[0]])
        return self._program.open()

    def explain(self, *, opened: bool) -> str:
        assert self._program is not None
        return self._program.explain(opened=opened)


def csi_command(stack: CsiStack, number: int, options: CaptureOptions) -> Command:
    """JPEGs until it is stopped: rpicam-vid encodes them on the processor, a Jetson in hardware."""
    width, height = options.size or _SIZE
    if stack == "nvarguscamerasrc":
        rate = Fraction(options.fps).limit_denominator(1000) if options.fps else None
        wished = f",framerate={rate.numerator}/{rate.denominator}" if rate else ""
        picture = f"video/x-raw(memory:NVMM),format=NV12,width={width},height={height}{wished}"
        source = ("nvarguscamerasrc", f"sensor-id={number}")
        encoder = ("nvjpegenc", f"quality={_QUALITY}")
        return Command(("gst-launch-1.0", "-q", *source, "!", picture, "!", *encoder, "!", "fdsink", "sync=false"))
    forever = ("--timeout", "0", "--nopreview")
    jpegs = ("--codec", "mjpeg", "--quality", _QUALITY, "--flush", "--output", "-")
    picture_options = ("--width", str(width), "--height", str(height))
    rate_options = ("--framerate", f"{options.fps:g}") if options.fps else ()
    return Command((stack, "--camera", str(number), *forever, *jpegs, *picture_options, *rate_options))
