"""The kinds of number that a transformer draws with: each draws clips of its own, and keeps every promise."""

import copy

import torch

from kinolenta.errors import ConfigError, require
from kinolenta.kernels.products import multiplies
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.int8 import Int8Stack, int8_stack_of
from kinolenta.transformer.stable import row_stable

PRECISIONS = ("float32", "bfloat16", "int8")


def with_precision(model: GPT, precision: str) -> tuple[GPT, Int8Stack | None]:
    """The model for decoding, as ``row_stable`` gives it, and what ``generate`` takes as ``int8``.

    precision: "float32" is the model itself. "bfloat16" rounds its weights and all that it computes to 8
    bits; fast where the processor has units for that. "int8": see ``int8_stack_of``. Raises ConfigError for
    another precision, or one that cannot be here.
    """
    check_precision(precision)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    require(
        dtype == torch.float32 or model.kind.device.type != "cpu" or multiplies(dtype),
        ConfigError,
        "bfloat16 needs a processor with AVX-512, or another one that oneDNN multiplies bfloat16 on; "
        "choose float32.",
    )
    if model.kind.dtype != dtype:
        model = copy.deepcopy(model).to(dtype)
    model = row_stable(model)
    return model, int8_stack_of(model) if precision == "int8" else None


def check_precision(precision: object) -> None:
    """Raises ConfigError unless it is one of PRECISIONS."""
    require(
        isinstance(precision, str) and precision in PRECISIONS,
        ConfigError,
        "there is no precision {!r}; choose one of {}.",
        precision,
        ", ".join(PRECISIONS),
    )
