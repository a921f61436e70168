"""The numbers that the forward pass of a training step computes with; weights and updates stay in float32."""

import torch

from kinolenta.errors import ConfigError, require
from kinolenta.kernels.products import multiplies

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def check_dtype(dtype: object) -> None:
    """Raises ConfigError unless it is the name of one of DTYPES."""
    known = isinstance(dtype, str) and dtype in DTYPES
    require(known, ConfigError, "dtype must be {}; got {!r}.", " or ".join(DTYPES), dtype)


def computes_in(dtype: str) -> bool:
    """Whether this processor does not multiply these numbers one by one."""
    return dtype == "float32" or multiplies(DTYPES[dtype])


def forward_in(dtype: str) -> torch.autocast:
    """The context of a forward pass in these numbers, entered in every step.

    Raises ConfigError for bfloat16 on a processor that oneDNN does not multiply it on: PyTorch would do so
    number by number, and a step would take some thirty times as long.
    """
    check_dtype(dtype)
    require(
        computes_in(dtype),
        ConfigError,
        "dtype bfloat16 needs a processor with AVX-512, or another one that oneDNN multiplies bfloat16 on; "
        "choose dtype float32, or resume a run that was begun in bfloat16 on such a processor.",
    )
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")
