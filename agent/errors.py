"""Every error that a person may have to act on; each message says what is wrong and what to do.

AgentError
├── ConfigError               the configuration cannot be used; the service does not start
├── StartError                something that it names is missing or already in use; a later start may succeed
├── ModelError                a file is not a classifier that this agent can serve
│   ├── IncompleteModelError  it is shorter than it claims: still being copied, or truncated
│   ├── NoRoomError           it does not fit into the memory that is currently free
│   ├── NoLabelsError         nothing names the labels of its outputs
│   ├── NotFiniteError        its scores for an image contain NaN or infinity
│   ├── InputRefusedError     its graph refuses the values of an image
│   └── SignatureError        the caller must choose a signature of the SavedModel, or an input size
├── AcceleratorError          a GPU or an Edge TPU cannot compute a model, so the CPU does
├── ModelNotFoundError        no model of that name is being served
│   └── ModelNotReadyError    the name is known, but no version of it is currently serving
├── ProfileNotFoundError      the configuration has no profile of that name
├── VersionError              a version cannot be pinned, promoted or rolled back to
├── StoreError                copies of models, or recorded events, currently cannot be read or written
├── ImageError                an image file cannot be classified
│   ├── ImageFormatError      it is not JPEG, PNG, WebP or BMP
│   ├── ImageTooLargeError    it has more bytes or pixels than allowed
│   └── ImageDamagedError     it claims a known format but cannot be decoded
├── TensorError               a client's tensor does not fit the model's input
├── SegmentError              a file of the outbox was damaged or removed while the agent runs
├── BusyError                 the queue for inference is full; retry later
│   └── MemoryFullError       the memory is currently too small for one image
└── SourceError               a camera, video or folder currently gives no frames
"""

from __future__ import annotations


class AgentError(Exception):
    """Root of the tree: expected problems, reported in a sentence and never as a traceback."""


class ConfigError(AgentError):
    """Raised while reading the configuration; the command line exits with 2."""


class StartError(AgentError):
    """Raised at the start for a folder or an address; the command line exits with 1, and systemd restarts it."""


class ModelError(AgentError):
    """Raised with the cause and the remedy when a file cannot become a served model."""


class IncompleteModelError(ModelError):
    """Raised when a file is shorter than its own offsets and lengths say."""


class NoRoomError(ModelError):
    """Raised when the device is short of memory; the file is retried later."""


class NoLabelsError(ModelError):
    """Raised when neither the file nor its settings have labels."""


class NotFiniteError(ModelError):
    """Raised when a model answers an image with NaN or infinity."""


class InputRefusedError(ModelError):
    """Raised when a check or a decoder inside a model fails for one image."""


class SignatureError(ModelError):
    """Raised when several signatures match, or when the requested signature or input size does not match."""


class AcceleratorError(AgentError):
    """Raised with the end of a sentence that says what is wrong with the accelerator."""


class ModelNotFoundError(AgentError):
    """Raised when a caller names a model that is not being served, or when no model is served."""


class ModelNotReadyError(ModelNotFoundError):
    """Raised while a model is being loaded, or when all its files were rejected."""


class ProfileNotFoundError(AgentError):
    """Raised when a person chooses a profile that does not exist; nothing changes."""


class VersionError(AgentError):
    """Raised when the requested version is not in the store or cannot serve."""


class StoreError(AgentError):
    """Raised when the disk is full, read-only or not writable for the agent; serving continues, and it retries."""


class ImageError(AgentError):
    """Raised for bytes that cannot be classified; never raised for pixels."""


class ImageFormatError(ImageError):
    """Raised when the content does not begin like a JPEG, PNG, WebP or BMP file."""


class ImageTooLargeError(ImageError):
    """Raised from the header alone, before anything is decoded."""


class ImageDamagedError(ImageError):
    """Raised when bytes that begin like an image cannot be decoded."""


class TensorError(AgentError):
    """Raised for a tensor of another shape or type than the model takes, or with values that it cannot take."""


class SegmentError(AgentError):
    """Raised when a segment that was intact at the start cannot be read; the outbox announces the lost results."""

    def __init__(self, number: int) -> None:
        super().__init__(f"Segment {number} of the outbox is damaged or missing.")
        self.number = number


class BusyError(AgentError):
    """Raised at once when the queue is full."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MemoryFullError(BusyError):
    """Raised by the runtime. Another image may fit, and so may this one later; but it may always be too large."""


class SourceError(AgentError):
    """Raised by a source that cannot be opened or has stopped giving frames; opening is retried."""
