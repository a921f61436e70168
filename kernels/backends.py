"""Which implementation of an operator does the work, and why: said in the log, once for each reason."""

import functools
import importlib.util
import logging
import os

import torch

from kinolenta.errors import ConfigError, require

BACKENDS = ("reference", "sdpa", "triton")
VARIABLE = "KINOLENTA_KERNELS"
MAX_HEAD_DIM = 128
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

INSTALLED = importlib.util.find_spec("triton") is not None  # a search of the disk, dear in an inner loop

_log = logging.getLogger(__name__)


def resolve(backend: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    """The backend to use: as asked, or by the environment variable KINOLENTA_KERNELS, or the fastest for q.

    Raises ConfigError for a name that does not exist, and for "triton" where Triton cannot run.
    """
    if backend == "auto":
        backend = os.environ.get(VARIABLE) or "auto"
    if backend == "auto":
        obstacle = _obstacle(device, dtype, head_dim)
        chosen, reason = ("sdpa", obstacle) if obstacle else ("triton", f"{device.type} device")
        if not torch.compiler.is_compiling():  # a log line would break the graph
            _announce(chosen, reason)
        return chosen
    require(
        backend in BACKENDS,
        ConfigError,
        "there is no kernel backend {!r}; choose one of auto, {}.",
        backend,
        ", ".join(BACKENDS),
    )
    if backend == "triton":
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        obstacle = _obstacle(device, dtype, head_dim, interpreted=interpreted)
        require(obstacle is None, ConfigError, "the triton backend cannot run here: {}. Use sdpa.", obstacle)
    return backend


def _obstacle(
    device: torch.device, dtype: torch.dtype, head_dim: int, *, interpreted: bool = False
) -> str | None:
    """Why Triton cannot take queries like these, or None if it can."""
    if not INSTALLED:
        return "triton is not installed"
    if dtype not in DTYPES:
        return f"it takes float32, bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"
    if head_dim > MAX_HEAD_DIM:
        return f"it takes heads up to {MAX_HEAD_DIM} wide, not {head_dim}"
    if interpreted:
        return None
    if device.type != "cuda":
        return f"it needs a GPU, and the tensors are on the {device.type} device"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than compute capability 8.0"
    return None


@functools.cache
def _announce(backend: str, reason: str) -> None:
    _log.info("kernel backend: %s (%s)", backend, reason)
