"""What the compiler makes of every kernel, read from the binaries: no GPU is needed, and none is used.

    python benchmarks/kernel_report.py                      # every kernel, configuration and target
    python benchmarks/kernel_report.py --targets sm_80      # one of sm_80, sm_90, sm_100, gfx942
    python benchmarks/kernel_report.py --jobs core          # every kernel, fewer types, widths and masks

Registers, spills, shared memory and instructions are facts about the code. Occupancy follows from published
limits, the roofline time from published peaks; both are bounds and not timings. Ends with exit code 1 if a
kernel spills vector registers, exceeds the shared memory of its target, or lacks matrix instructions or
asynchronous copies where it should have them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # a checkout need not be installed

from roofline import PEAKS, PRODUCTS, bound, per_tile

from kinolenta.kernels.attention.mask import Causal, Column, Mask, Neighbourhood, Prefix, Row
from kinolenta.kernels.tiles import (
    DECODE_SPLIT,
    Tile,
    decode_tile,
    delta_tile,
    dkv_tile,
    dq_tile,
    forward_tile,
)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
MASKS: dict[str, Mask] = {
    "causal": Causal(),
    "prefix": Prefix(prefix=66),
    "row": Row(code_start=66, num_codes=1024, width=32),
    "column": Column(code_start=66, num_codes=1024, width=32),
    "conv": Neighbourhood(code_start=66, num_codes=1024, height=32, width=32, window=(0, 5, 5)),
    "conv, wrapped": Neighbourhood(
        code_start=66, num_codes=1024, height=32, width=32, window=(0, 5, 5), wrap=True
    ),
    "neighbourhood": Neighbourhood(code_start=66, num_codes=1280, height=16, width=16, window=(2, 3, 3)),
}
TILES = {
    "forward": forward_tile, "delta": delta_tile, "dq": dq_tile, "dkv": dkv_tile, "split": decode_tile,
    "join": decode_tile,
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Published limits of a GPU. registers: of a multiprocessor (of a SIMD's lane on AMD)."""

    backend: str
    arch: int | str
    warp: int
    registers: int
    shared_block: int
    shared_total: int
    warps: int
    matrix: str
    copies: str | None


TARGETS = {
    "sm_80": Target("cuda", 80, 32, 65536, 166912, 167936, 64, r"\bHMMA\b", r"\bLDGSTS\b"),
    "sm_90": Target(
        "cuda", 90, 32, 65536, 232448, 233472, 64, r"\b(?:HMMA|HGMMA)\b", r"\b(?:LDGSTS|UTMALDG)\b"
    ),
    "sm_100": Target(
        "cuda", 100, 32, 65536, 232448, 233472, 64, r"\b(?:HMMA|UTC\w*MMA)\b", r"\b(?:LDGSTS|UTMALDG)\b"
    ),
    "gfx942": Target("hip", "gfx942", 64, 512, 65536, 65536, 8, r"\bv_mfma_\w+", None),
}


@dataclass(frozen=True)
class Job:
    """One kernel in one configuration."""

    kernel: str
    dtype: str
    head_dim: int
    mask: str


@dataclass
class Binary:
    """What was read from one binary."""

    job: Job
    target: str
    tile: Tile
    registers: int
    spills: int
    shared: int
    matrix: int
    copies: int
    occupancy: float
    faults: list[str] = field(default_factory=list)


JOB_SETS = ("core", "quick", "full")


def jobs(which: str = "full") -> list[Job]:
    """Configurations of every kernel.

    core: the causal mask, bf16 and fp32, widths 64 and 128. quick: also bf16 with 80, and every mask with
    bf16 and 64. full: also fp16, and every type with every width.
    """
    kinds = {
        "core": [("bf16", 64), ("bf16", 128), ("fp32", 64), ("fp32", 128)],
        "quick": [("bf16", 64), ("bf16", 80), ("bf16", 128), ("fp32", 64), ("fp32", 128)],
        "full": [(dtype, d) for dtype in DTYPES for d in (64, 80, 128)],
    }[which]
    plain = [Job(kernel, dtype, d, "causal") for kernel in TILES for dtype, d in kinds]
    plain.append(Job("noise", "fp32", 0, "none"))
    if which == "core":
        return plain
    masked = [Job(kernel, "bf16", 64, m) for kernel in ("forward", "dq", "dkv", "split") for m in MASKS]
    return plain + [job for job in masked if job.mask != "causal"]


def build(job: Job, target: str) -> Binary:
    """Compile ahead of time and read the binary."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    limits = TARGETS[target]
    kernel, constants, tile = _kernel(job, limits.backend)
    names, is_pointer = kernel.arg_names, lambda name: name.endswith("_ptr")
    low = {"bf16": "*bf16", "fp16": "*fp16", "fp32": "*fp32"}[job.dtype]
    types = {
        "rows_ptr": "*i32",
        "lse_ptr": "*fp32",
        "delta_ptr": "*fp32",
        "acc_ptr": "*fp32",
        "sums_ptr": "*fp32",
        "stream_ptr": "*i64",
        "positions_ptr": "*i64",
    }
    signature, aligned = {}, {}
    for index, name in enumerate(names):
        if name in constants:
            signature[name] = "constexpr"
        elif is_pointer(name):
            signature[name] = types.get(name, low)
        else:
            signature[name] = "fp32" if name == "scale" else "i32"
        if is_pointer(name) or name.startswith("stride_"):  # what a launch with whole tensors would find
            aligned[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(
        kernel, signature, {(names.index(name),): value for name, value in constants.items()}, aligned
    )
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    compiled = triton.compile(
        source, target=GPUTarget(limits.backend, limits.arch, limits.warp), options=options
    )
    shared = int(compiled.metadata.shared)
    if limits.backend == "cuda":
        registers, spills, text = _read_cubin(compiled.asm["cubin"])
    else:
        registers, spills, text = _read_amdgcn(compiled.asm["amdgcn"])
    row = Binary(
        job, target, tile, registers, spills, shared,
        matrix=len(re.findall(limits.matrix, text)),
        copies=len(re.findall(limits.copies, text)) if limits.copies else 0,
        occupancy=_occupancy(limits, tile.num_warps, registers, shared),
    )  # fmt: skip
    _judge(row, limits)
    return row


def _kernel(job: Job, backend: str) -> tuple[Any, dict[str, Any], Tile]:
    from kinolenta.kernels import noise
    from kinolenta.kernels.attention import triton as launcher
    from kinolenta.kernels.attention import triton_backward as backward
    from kinolenta.kernels.attention import triton_forward as forward
    from kinolenta.kernels.attention.triton_mask import key_span_count, query_span_count
    from kinolenta.kernels.decode import triton as decode

    if job.kernel == "noise":
        return noise.gumbel_kernel, {"BLOCK": noise.BLOCK}, Tile(noise.BLOCK, 4, noise.WARPS, 1)
    dtype, rule = DTYPES[job.dtype], [int(number) for number in MASKS[job.mask].rule]
    tile = TILES[job.kernel](dtype, job.head_dim, backend)
    kernel = {
        "forward": forward.attention_forward_kernel,
        "delta": backward.attention_delta_kernel,
        "dq": backward.attention_dq_kernel,
        "dkv": backward.attention_dkv_kernel,
        "split": decode.decode_split_kernel,
        "join": decode.decode_join_kernel,
    }[job.kernel]
    constants = launcher.constants(dtype, job.head_dim, rule, tile, backend)
    constants["SPANS"] = query_span_count(rule) if job.kernel == "dkv" else key_span_count(rule)
    constants["SPLIT"] = DECODE_SPLIT
    return kernel, {name: constants[name] for name in kernel.arg_names if name in constants}, tile


def _read_cubin(cubin: bytes) -> tuple[int, int, str]:
    """Registers, spill instructions (local loads and stores) and the listing."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _output(str(tools / "cuobjdump"), "-res-usage", str(path))
        listing = _output(str(tools / "cuobjdump"), "-sass", str(path))
    found = re.search(r"REG:(\d+)", usage)
    assert found, usage
    return int(found[1]), len(re.findall(r"\b(?:LDL|STL)\b", listing)), listing


def _read_amdgcn(listing: str) -> tuple[int, int, str]:
    """Vector and accumulation registers of a lane, spilled vector registers, and the listing."""
    numbers = {name: int(value) for name, value in re.findall(r"\.(\w+_count):\s+(\d+)", listing)}
    return numbers["vgpr_count"], numbers["vgpr_spill_count"], listing


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _occupancy(limits: Target, num_warps: int, registers: int, shared: int) -> float:
    """Share of the warps that a multiprocessor can hold, by registers, shared memory and warp slots."""
    if limits.backend == "cuda":
        by_registers = limits.registers // (-(-registers * 32 // 256) * 256 * num_warps)
        by_shared = limits.shared_total // (shared + 1024)
        blocks = min(by_registers, by_shared, limits.warps // num_warps, 32)
        return blocks * num_warps / limits.warps
    waves = min(limits.warps, limits.registers // (-(-registers // 8) * 8))  # of each of 4 SIMDs
    blocks = min(waves * 4 // num_warps, limits.shared_total // max(shared, 1))
    return blocks * num_warps / (limits.warps * 4)


def _judge(row: Binary, limits: Target) -> None:
    if row.spills:
        row.faults.append("spills registers")
    if row.shared > limits.shared_block:
        row.faults.append("too much shared memory")
    if row.job.kernel not in ("delta", "join", "noise"):  # those multiply no matrices
        if not row.matrix:
            row.faults.append("no matrix instructions")
        if limits.copies and not row.copies:
            row.faults.append("no asynchronous copies")


def print_bounds() -> None:
    """Roofline times of bf16 attention, and what a pair of blocks costs."""
    shape = {"dtype": "bf16", "batch": 8, "heads": 12, "kv_heads": 12, "d": 64}
    print(
        "\nroofline bounds, bf16, batch 8, 12 heads of 64, 66 text slots and the mask's codes; not measured"
    )
    print(
        "kernel   mask            live   GFLOP    MB    FLOP/B  B/tile  FLOP/tile  "
        + "  ".join(PEAKS)
        + " (us)"
    )
    for kernel in PRODUCTS:
        for name, mask in MASKS.items():
            tile = TILES[kernel](torch.bfloat16, 64, "cuda")
            slots = 66 + (mask.rule.num_codes or 1280)
            found = bound(kernel, mask, tile, slots=slots, **shape)
            moved, flops = per_tile(kernel, tile, "bf16", 64)
            times = "  ".join(f"{found.microseconds[gpu]:{len(gpu)}.0f}" for gpu in PEAKS)
            print(
                f"{kernel:8} {name:15} {found.live_share:4.0%} {found.gigaflops:7.1f} {found.megabytes:6.1f} "
                f"{found.intensity:7.0f} {moved:7} {flops:10}  {times}"
            )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--jobs", choices=JOB_SETS, default="full", help="how many configurations (full)")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(arguments)
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    rows: list[Binary] = []
    print(
        "kernel   type  d    mask            target   tile        "
        "regs  spills  shared B  matrix  copies  occup."
    )
    with ProcessPoolExecutor(options.workers) as pool:
        for target in options.targets:
            for row in pool.map(partial(build, target=target), jobs(options.jobs)):
                rows.append(row)
                tile = "x".join(map(str, row.tile[:2])) + f" w{row.tile.num_warps} s{row.tile.num_stages}"
                job = f"{row.job.kernel:8} {row.job.dtype:5} {row.job.head_dim:<4} {row.job.mask:15}"
                figures = f"{row.registers:4}  {row.spills:6}  {row.shared:8}  {row.matrix:6}  {row.copies:6}"
                faults = "; ".join(row.faults)
                print(f"{job} {target:8} {tile:12}{figures}  {row.occupancy:5.0%}  {faults}", flush=True)
    print_bounds()
    facts = [{**asdict(row.job), **{k: v for k, v in asdict(row).items() if k != "job"}} for row in rows]
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1))
    bad = sum(bool(row.faults) for row in rows)
    print(json.dumps({"compiled": len(rows), "faults": bad}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
