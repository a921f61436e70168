"""The least time that published peaks allow an attention kernel: arithmetic, memory, and which of them binds.

A bound and not a timing: no kernel reaches it, and nothing here was run on a GPU.
"""

from dataclasses import dataclass

import torch

from kinolenta.kernels.attention.mask import Mask
from kinolenta.kernels.tiles import Tile

# Dense peaks in TFLOP/s by type and memory bandwidth in GB/s, from the makers' data sheets. float32 is
# counted as three TF32 products on NVIDIA's GPUs and as the float32 matrix rate on AMD's.
PEAKS = {
    "A100 SXM 80GB": {"bf16": 312.0, "fp16": 312.0, "fp32": 156.0 / 3, "bandwidth": 2039.0},
    "H100 SXM": {"bf16": 989.0, "fp16": 989.0, "fp32": 494.0 / 3, "bandwidth": 3350.0},
    "MI300X": {"bf16": 1307.0, "fp16": 1307.0, "fp32": 163.4, "bandwidth": 5300.0},
}
# Matrix products of [block_q, d] by [d, block_k] that each kernel makes for a pair of blocks.
PRODUCTS = {"forward": 2, "dq": 3, "dkv": 4}
# Tensors of [b, h, n, d] and of [b, h_kv, s, d] that each reads and writes once; the rest stays in the cache.
TENSORS = {"forward": (2, 2), "dq": (3, 2), "dkv": (2, 4)}


@dataclass(frozen=True)
class Bound:
    """One kernel on one shape."""

    kernel: str
    live_share: float  # of the n x s blocks
    gigaflops: float
    megabytes: float
    microseconds: dict[str, float]

    @property
    def intensity(self) -> float:
        """Floating-point operations a byte."""
        return self.gigaflops * 1e3 / self.megabytes


def bound(
    kernel: str,
    mask: Mask,
    tile: Tile,
    *,
    dtype: str,
    batch: int,
    heads: int,
    kv_heads: int,
    slots: int,
    d: int,
) -> Bound:
    """The bound for attention of ``slots`` queries over as many keys."""
    blocks = live_blocks(mask, tile, slots)
    flops = PRODUCTS[kernel] * 2 * d * tile.block_q * tile.block_k * int(blocks.sum()) * batch * heads
    size = 4 if dtype == "fp32" else 2
    wide, narrow = TENSORS[kernel]
    moved = size * batch * slots * d * (wide * heads + narrow * kv_heads)
    times = {
        name: max(flops / peak[dtype] / 1e6, moved / peak["bandwidth"] / 1e3) for name, peak in PEAKS.items()
    }
    return Bound(kernel, blocks.float().mean().item(), flops / 1e9, moved / 1e6, times)


def live_blocks(mask: Mask, tile: Tile, slots: int) -> torch.Tensor:
    """bool [query blocks, key blocks]: which hold a live pair."""
    visible = mask.visible(slots, slots, torch.device("cpu"))[0, 0]
    rows, columns = -(-slots // tile.block_q), -(-slots // tile.block_k)
    padded = torch.zeros(rows * tile.block_q, columns * tile.block_k, dtype=torch.bool)
    padded[:slots, :slots] = visible
    return padded.view(rows, tile.block_q, columns, tile.block_k).any(3).any(1)


def per_tile(kernel: str, tile: Tile, dtype: str, d: int) -> tuple[int, int]:
    """Bytes loaded and floating-point operations for one pair of blocks."""
    size = 4 if dtype == "fp32" else 2
    moving = tile.block_q if kernel == "dkv" else tile.block_k
    return 2 * moving * d * size, PRODUCTS[kernel] * 2 * d * tile.block_q * tile.block_k
