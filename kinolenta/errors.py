"""The errors that users meet: each message says what was wrong, what is allowed and what to do.

A leaf of the import graph: every stage raises these, so this module imports nothing.
"""


class KinolentaError(ValueError):
    """Base of everything that bad input can raise; the command prints it as one line and exits with 1."""


class ShapeError(KinolentaError):
    """Frames, codes or latents have sizes that the model cannot take."""


class PromptError(KinolentaError):
    """A text prompt is empty, too long, or not text."""


class MediaError(KinolentaError):
    """An image or video file cannot be read or written."""


class CheckpointError(KinolentaError):
    """A model folder is incomplete, damaged, or does not fit its configuration."""


class ConfigError(KinolentaError):
    """A configuration has an unknown key or a value out of range."""


class DataError(KinolentaError):
    """A training source is missing, cannot be fetched, or is not what its checksum says."""


class GenerationError(KinolentaError):
    """Generation met numbers from which no code can be drawn."""


def require(condition: bool, error: type[KinolentaError], message: str, *values: object) -> None:
    """Raise ``error`` with the formatted message unless the condition holds."""
    if not condition:
        raise error(message.format(*values))
