"""Every error of the converter; each message is a sentence that says what is wrong, where, and what to do.

AgentError                    of the agent: its models, SavedModels and images raise it here too
└── ConverterError
    ├── UsageError            the command line asks for what cannot be; exit code 2
    ├── TrainedModelError     what was to be converted cannot be read
    ├── ConversionError       TensorFlow could not convert it, or the target could not load what came out
    ├── ImagesError           a folder of images cannot serve for calibration or evaluation
    ├── DropError             the finished model answers worse than --max-drop allows
    └── SigningError          a file cannot be signed: its key cannot be read, or the password is another
"""

from __future__ import annotations

from agent.errors import AgentError


class ConverterError(AgentError):
    """Root of the converter's own part of the tree."""


class UsageError(ConverterError):
    """Raised before any work is done."""


class TrainedModelError(ConverterError):
    """Raised for a path that leads to no trained model, and for a .keras or .h5 file that Keras cannot open."""


class ConversionError(ConverterError):
    """Raised with the operators at fault, where they are known."""


class ImagesError(ConverterError):
    """Raised when a folder is missing, empty, or holds too few images that decode."""


class DropError(ConverterError):
    """Raised by the gate, with the figures; nothing has been written then."""


class SigningError(ConverterError):
    """Raised when a key file is damaged, missing or locked by another password."""
