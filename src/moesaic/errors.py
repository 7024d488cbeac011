"""The errors that moesaic raises on purpose: one family, each kind naming what the user can change."""


class MoesaicError(Exception):
    """Root of every error that leaves the library on purpose; its text is one line that says what to change."""


class ArgumentError(MoesaicError, ValueError):
    """A value passed to a call or an option is outside what it accepts."""


class ShapeError(ArgumentError):
    """An array or tensor has the wrong number of axes, channels or elements."""


class PictureError(MoesaicError):
    """A file is no picture that can be read, or a picture cannot be written in the form asked for."""


class FormatError(MoesaicError):
    """A .moe file is damaged, truncated, or of a version or feature that this moesaic does not know."""


class LimitError(MoesaicError):
    """A stated, adjustable limit on pixels, kernels or bytes would be exceeded."""


class OutputExistsError(MoesaicError):
    """The output is there already and overwriting was not asked for."""


class BackendError(MoesaicError):
    """A backend was asked for by name and cannot run here; the text carries the reason."""


class ModelError(MoesaicError):
    """A model is unknown, or its weights are missing, damaged or of another shape."""


class TrainingError(MoesaicError):
    """A training run diverged, or cannot be resumed; the text says what is kept and where."""


class MissingExtraError(MoesaicError):
    """An optional dependency is absent; the text names the extra to install."""


class WorkerError(MoesaicError):
    """A process that did a part of the work died; the text says how."""
