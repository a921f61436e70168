"""What a generation will hold in memory, said before any of it is taken."""

from pathlib import Path

import torch

from kinolenta.errors import GenerationError, require
from kinolenta.transformer.cache import cache_slots
from kinolenta.transformer.config import GPTConfig
from kinolenta.transformer.noise import BLOCK

CONTAINER = Path("/sys/fs/cgroup")


def needed_bytes(config: GPTConfig, rows: int, num_codes: int, window: int, itemsize: int = 4) -> int:
    """Keys and values of all rows, tables of all places, and what draws a window, in float32: its logits and
    what sampling makes of them, about ten times, and noise with what it is made from.
    """
    tables = num_codes * (2 * (config.n_head + config.n_kv_head) * config.head_dim + config.d_model)
    row = config.n_layer * 2 * config.n_kv_head * config.head_dim * cache_slots(config, num_codes)
    cache = (rows * row + tables) * itemsize
    places = rows * (10 * window + 2 * window + BLOCK) + 6 * BLOCK
    return cache + 4 * places * config.codebook_size


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be had, or None if the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    allowed = allowed_bytes(CONTAINER)
    return min([*found, *([] if allowed is None else [allowed])], default=None)


def allowed_bytes(group: Path) -> int | None:
    """What a container (a Linux control group, version 2) may still take; None where it has no limit."""
    try:
        limit, used, details = (
            (group / f"memory.{name}").read_text().split() for name in ("max", "current", "stat")
        )
        cached = int(details[details.index("inactive_file") + 1])  # of files; given up when it gets tight
    except (OSError, ValueError):
        return None
    if limit == ["max"]:
        return None
    return max(0, int(limit[0]) - int(used[0]) + cached)


def check_memory(config: GPTConfig, rows: int, num_codes: int, window: int, weights: torch.Tensor) -> None:
    """Raise GenerationError if a model of such weights cannot do it; nothing has been allocated then."""
    free = available_bytes(weights.device)
    need = needed_bytes(config, rows, num_codes, window, weights.itemsize)
    require(
        free is None or need <= free,
        GenerationError,
        "this needs about {:.1f} GB of memory for {} rows of {} codes, and {:.1f} GB are free. "
        "Make fewer clips at once, or shorter ones.",
        need / 1e9,
        rows,
        num_codes,
        (free or 0) / 1e9,
    )
