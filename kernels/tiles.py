"""How large a block each kernel works on, by number type and head width; one table for launches and report.

Chosen from the ahead-of-time report (docs/kernels.md): the largest tile without register spills that leaves
room for two programs on a multiprocessor. Not timed: no GPU was at hand.
"""

from typing import NamedTuple

import torch


class Tile(NamedTuple):
    """Block sizes over queries and keys, and how a program is run."""

    block_q: int
    block_k: int
    num_warps: int
    num_stages: int


def forward_tile(dtype: torch.dtype, head_dim: int, backend: str) -> Tile:
    """For attention_forward_kernel; backend is "cuda" or "hip"."""
    if dtype == torch.float32:
        return Tile(32, 32, 4, 2) if head_dim <= 64 else Tile(32, 32, 8, 2)
    return Tile(64, 64, 4, 3) if head_dim <= 64 else Tile(64, 64, 4, 2)


def dq_tile(dtype: torch.dtype, head_dim: int, backend: str) -> Tile:
    """For attention_dq_kernel."""
    if dtype == torch.float32:
        return Tile(16, 32, 4, 2) if head_dim <= 64 else Tile(16, 16, 8, 2)
    if head_dim <= 64 or backend == "hip":
        return Tile(64, 32, 4, 2)
    return Tile(64, 64, 8, 2)


def delta_tile(dtype: torch.dtype, head_dim: int, backend: str) -> Tile:
    """For attention_delta_kernel: the queries of a dq program, and more warps, since it only reads."""
    wide = dtype != torch.float32 and head_dim > 64 and backend == "cuda"
    return dq_tile(dtype, head_dim, backend)._replace(num_warps=16 if wide else 8)


def dkv_tile(dtype: torch.dtype, head_dim: int, backend: str) -> Tile:
    """For attention_dkv_kernel."""
    if dtype == torch.float32:
        return Tile(16, 32, 4, 2) if head_dim <= 64 else Tile(16, 16, 8, 2)
    if head_dim <= 64:
        return Tile(32, 64, 4, 2)
    return Tile(16, 32, 4, 2) if backend == "hip" else Tile(32, 32, 8, 2)


DECODE_SPLIT = 256  # slots of the cache that one program reads


def decode_tile(dtype: torch.dtype, head_dim: int, backend: str) -> Tile:
    """For decode_split_kernel. One size of tile for every window: it is what makes rows batch-invariant."""
    if dtype == torch.float32:
        return Tile(16, 32, 4, 2) if head_dim <= 64 else Tile(16, 16, 4, 2)
    return Tile(16, 64, 4, 2) if head_dim <= 64 else Tile(16, 32, 4, 2)
