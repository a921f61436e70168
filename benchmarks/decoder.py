"""How fast the VQGAN encodes and decodes clips, beside what the machine can do, and what it keeps of them.

    python benchmarks/decoder.py --runs 20 --json decoder.json

Medians with 20th and 80th percentiles over the runs, after a warm-up. The share of the ceiling is that of the
arithmetic rate which one large matrix product in the same type reaches on this machine in the same run.
Streamed and whole decoding are compared first: nothing is timed if they differ. The table goes to stdout, the
last line is JSON.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # a checkout need not be installed

from kinolenta.checkpoint import demo_folder, load_into, load_weights
from kinolenta.data.clips import NUM_FRAMES, ClipSet
from kinolenta.data.fetch import cache_dir
from kinolenta.data.store import open_store
from kinolenta.decoder import VideoVQGAN, VQGANConfig
from kinolenta.errors import ConfigError, KinolentaError, MediaError, require
from kinolenta.evaluation.quality import Coding, coding
from kinolenta.files import check_writable, write_json
from kinolenta.pixels import to_float

LEAST_RUNS = 20
Shape = tuple[int, ...]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the VQGAN.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--runs", type=int, default=LEAST_RUNS, help=f"timed runs, at least {LEAST_RUNS}")
    parser.add_argument("--batch", type=int, default=1, help="clips a run (1)")
    parser.add_argument("--clips", type=int, default=32, help="held-out clips for the PSNR (32)")
    parser.add_argument(
        "--store", type=Path, help="folder of rendered clips to use; without it, dev clips are drawn"
    )
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args(arguments)


def load(folder: Path) -> VideoVQGAN:
    config, state = load_weights(folder, VQGANConfig)
    model = VideoVQGAN(config)
    load_into(model, state, str(folder / "model.safetensors"))
    return model.eval().requires_grad_(False)


def held_clips(options: argparse.Namespace, size: int) -> np.ndarray:
    """uint8 [n, 17, size, size, 3], at least a batch of them."""
    count = max(options.clips, options.batch)
    if options.store:
        return np.array(open_store(options.store)[:count])
    clips = ClipSet(cache_dir(), split="dev", seed=0)
    return np.stack([clips.frames(i, size) for i in tqdm(range(count), desc="rendering", file=sys.stderr)])


def milliseconds(task: Callable[[], object], runs: int, name: str) -> dict[str, float]:
    """p20, median and p80 of the task's time, after three runs that do not count."""
    for _ in range(3):
        task()
    taken = []
    for _ in tqdm(range(runs), desc=name, file=sys.stderr):
        started = time.perf_counter()
        task()
        taken.append(1000 * (time.perf_counter() - started))
    low, median, high = np.percentile(taken, (20, 50, 80))
    return {"ms": round(float(median), 2), "p20": round(float(low), 2), "p80": round(float(high), 2)}


def matrix_ceiling(runs: int) -> float:
    """Arithmetic operations a second, in 10^9, of a 1024 x 1024 float32 matrix product."""
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    return 2 * 1024**3 / milliseconds(lambda: a @ b, runs, "ceiling")["ms"] / 1e6


def operations(task: Callable[[], object]) -> float:
    """Arithmetic operations of convolutions and matrix products in one run, in 10^9."""
    laid_out = torch.ops.mkldnn  # of weights that oneDNN has laid out PyTorch does not know how to count
    more = {laid_out._convolution_pointwise: _products, laid_out._linear_pointwise: _products}
    with FlopCounterMode(display=False, custom_mapping=more) as counter:
        task()
    return counter.get_total_flops() / 1e9


def _products(
    x: Shape, second: Shape, third: Shape | None = None, *rest: object, out_shape: Shape, **options: object
) -> int:
    """Of a weight [out, in, ...]: each number of the output is a sum of as many products as a row has. The
    weight is the second argument, before a bias [out], or the third, behind what is added.
    """
    weight = third if third is not None and len(third) > 1 else second
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


def check_stream(model: VideoVQGAN, codes: Tensor) -> None:
    """Streamed frames must be those of the whole decode."""
    whole, stream = model.decode(codes), model.stream()
    pieces = torch.cat([stream.push(codes[:, t : t + 1]) for t in range(codes.shape[1])], dim=2)
    worst = (whole - pieces).abs().max().item()
    assert worst < 1e-4, f"streamed and whole decode differ by {worst}: a wrong decoder is not timed"


@torch.inference_mode()
def measure(model: VideoVQGAN, clips: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    frames = to_float(clips[: options.batch])
    codes = model.encode(frames)
    check_stream(model, codes)
    ceiling = matrix_ceiling(options.runs)
    tasks: dict[str, Callable[[], object]] = {
        "encode": lambda: model.encode(frames),
        "decode": lambda: model.decode(codes),
        "first frame": lambda: model.stream().push(codes[:, :1]),
    }
    rows: dict[str, dict[str, float]] = {}
    for name, task in tasks.items():
        row = milliseconds(task, options.runs, name)
        shown = options.batch * (1 if name == "first frame" else NUM_FRAMES)
        rate = operations(task) / row["ms"] * 1000
        row |= {"fps": round(1000 * shown / row["ms"], 1), "gflops": round(rate, 2)}
        rows[name] = row | {"share_of_ceiling": round(rate / ceiling, 4)}
    return {"ceiling_gflops": round(ceiling, 1), "rows": rows}


def print_table(figures: dict[str, Any], kept: Coding) -> None:
    print(
        f"{'':14s}{'ms':>9s}{'[p20':>10s}{'p80]':>10s}{'frames/s':>10s}{'GFLOP/s':>9s}{'% of ceiling':>14s}"
    )
    for name, row in figures["rows"].items():
        share = 100 * row["share_of_ceiling"]
        print(f"{name:14s}{row['ms']:9.1f}{row['p20']:10.1f}{row['p80']:10.1f}{row['fps']:10.1f}"
              f"{row['gflops']:9.1f}{share:14.1f}")  # fmt: skip
    print(f"\nceiling: matrix product of this machine, {figures['ceiling_gflops']:.0f} GFLOP/s")
    print(f"PSNR {kept.psnr_db:.2f} dB over {kept.clips} held-out clips, "
          f"{100 * kept.codes_used:.1f} % of the codebook in use")  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        require(options.runs >= LEAST_RUNS and options.batch > 0, ConfigError,
                "runs must be at least {} and batch positive; got {} and {}.", LEAST_RUNS, options.runs,
                options.batch)  # fmt: skip
        if options.json is not None:
            check_writable(options.json, MediaError, overwrite=True)
        if options.threads:
            torch.set_num_threads(options.threads)
        model = load((options.model or demo_folder()) / "decoder")
        clips = held_clips(options, model.config.size)
        setting = {
            "benchmark": "decoder", "model": str(options.model or "demo"), "batch": options.batch,
            "runs": options.runs, "threads": torch.get_num_threads(), "torch": torch.__version__,
            "machine": platform.machine(), "dtype": "float32",
        }  # fmt: skip
        print(f"decoder  |  {setting['model']}  torch {torch.__version__}  {setting['threads']} threads  "
              f"float32  batch {options.batch}  {NUM_FRAMES} frames of {model.config.size} px\n")  # fmt: skip
        figures = measure(model, clips, options)
        kept = coding(model, {"held out": (len(clips), clips.__getitem__)})["all"]
        print_table(figures, kept)
        result = setting | figures | {"quality": kept.to_dict()}
        if options.json is not None:
            write_json(options.json, result, MediaError)
    except KinolentaError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n" + json.dumps(result, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
