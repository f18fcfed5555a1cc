"""Every error of the converter; each message is a sentence that says what is wrong, where, and what to do.

AgentError                    of the agent: its code for model files, SavedModels and images raises it here too
└── ConverterError
    ├── UsageError            the command line is wrong or contradicts itself; exit code 2
    ├── TrainedModelError     the model to convert cannot be read
    ├── ConversionError       TensorFlow could not convert the model, or the target could not load the result
    ├── ImagesError           a folder of images cannot be used for calibration or evaluation
    ├── DropError             the finished model loses more accuracy than --max-drop allows, or answers by chance
    ├── SigningError          a file cannot be signed: the key cannot be read, or the password is wrong
    └── StoppedError          the user pressed Ctrl-C; exit code 130
"""

from __future__ import annotations

from agent.errors import AgentError


class ConverterError(AgentError):
    """Root of the converter's own errors."""


class UsageError(ConverterError):
    """Raised before any work is done."""


class TrainedModelError(ConverterError):
    """Raised if a path is not a trained model, or if Keras cannot open a .keras or .h5 file."""


class ConversionError(ConverterError):
    """Names the unsupported operators, if they are known."""


class ImagesError(ConverterError):
    """Raised when a folder is missing, empty, or has too few readable images."""


class DropError(ConverterError):
    """Gives the accuracies. The file has not been written."""


class SigningError(ConverterError):
    """Raised when a key file is damaged or missing, or the password is wrong."""


class StoppedError(ConverterError):
    """Raised after Ctrl-C by a command that can say how to go on."""
