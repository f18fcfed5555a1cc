"""Every error that a person may have to act on; each message is a sentence that says what to do.

AgentError
├── ConfigError               the configuration cannot be used; the service does not start
├── StartError                something that it names is not there at present, or in use; starting again may do
├── ModelError                a file is not a classifier that this agent can serve
│   ├── IncompleteModelError  it ends before what it announces: a copy goes on, or was cut off
│   ├── NoRoomError           the memory that is free now does not hold it
│   ├── NotFiniteError        it answered an image with NaN or infinity
│   └── SignatureError        the caller must say which signature of a SavedModel to take, or which input size
├── ModelNotFoundError        no model of that name is being served
│   └── ModelNotReadyError    the name is known, and no version of it serves at present
├── VersionError              a version cannot be pinned, promoted or gone back to
├── StoreError                the agent's own copies of models cannot be read or written at present
├── ImageError                an uploaded image cannot be classified
│   ├── ImageFormatError      it is not JPEG, PNG, WebP or BMP
│   ├── ImageTooLargeError    it has more bytes or pixels than allowed
│   └── ImageDamagedError     it claims a known format but does not decode
├── SegmentError              a file of the outbox was damaged or removed while the agent runs
├── BusyError                 every place in line for inference is taken; try again later
└── SourceError               a camera, video or folder gives no frames at present
"""

from __future__ import annotations


class AgentError(Exception):
    """Root of the tree: expected trouble, reported in a sentence and never as a traceback."""


class ConfigError(AgentError):
    """Raised while reading the configuration; the command line exits with 2."""


class StartError(AgentError):
    """Raised at the start for a folder or an address; the command line exits with 1, and systemd tries again."""


class ModelError(AgentError):
    """Raised with the cause and the remedy when a file cannot become a served model."""


class IncompleteModelError(ModelError):
    """Raised when a file is shorter than its own offsets and lengths say."""


class NoRoomError(ModelError):
    """Raised by a device that is short of memory just now; the file is tried again later."""


class NotFiniteError(ModelError):
    """Raised when a model answers an image with NaN or infinity."""


class SignatureError(ModelError):
    """Raised when several signatures fit, or when the one that was asked for, or the input size, does not."""


class ModelNotFoundError(AgentError):
    """Raised when a caller names a model that is not being served, or none is."""


class ModelNotReadyError(ModelNotFoundError):
    """Raised while a model is loaded, or when its only files are rejected."""


class VersionError(AgentError):
    """Raised when somebody asks for a version that is not in the store, or that cannot serve."""


class StoreError(AgentError):
    """Raised when the disk is full, read-only or not ours; what serves goes on, and it is tried again."""


class ImageError(AgentError):
    """Raised for bytes that cannot be classified; never raised for a camera's frame."""


class ImageFormatError(ImageError):
    """Raised when the first bytes are not those of a JPEG, PNG, WebP or BMP."""


class ImageTooLargeError(ImageError):
    """Raised from the header alone, before anything is decoded."""


class ImageDamagedError(ImageError):
    """Raised when the decoder gives nothing for bytes that begin like an image."""


class SegmentError(AgentError):
    """Raised while the outbox reads a segment that was whole at the start; the outbox announces what is lost."""

    def __init__(self, number: int) -> None:
        super().__init__(f"Segment {number} of the outbox is damaged or missing.")
        self.number = number


class BusyError(AgentError):
    """Raised at once when the line is full."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SourceError(AgentError):
    """Raised by a source that cannot be opened or has stopped giving frames; opening is retried."""
