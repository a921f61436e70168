"""How fast the transformer learns: tokens a second of a whole training step, and what the machine could do.

    python benchmarks/train.py --runs 10
    python benchmarks/train.py --runs 5 --n-layer 12 --d-model 768 --batch 2

A step is what ``kinolenta train transformer`` does: forward, backward, clipping, both optimizers, averaged
weights; random captions and codes, so nothing need be downloaded. Each type is timed in turn with the same
batch; its share is of the arithmetic rate that one large matrix product reaches in the same type and run.
Nothing is timed unless the loss in bfloat16 agrees with that in float32 to 2 %; where the processor does not
multiply bfloat16, float32 alone is timed. Medians with 20th and 80th percentiles; the last line is JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from kinolenta.training.dtype import DTYPES, computes_in, forward_in
from kinolenta.training.loop import OptimConfig, Trainer
from kinolenta.transformer import GPT, GPTConfig, SequenceLayout, Strip
from kinolenta.transformer.loss import strip_loss

WARM_UP = 2


def ceiling(dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best of several."""
    a = torch.randn(2048, 2048, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2 * 2048**3 / best


def batch_of(config: GPTConfig, batch: int) -> Strip:
    """Clips of the trained length under captions that fill two thirds of their place; no caption is right."""
    generator = torch.Generator().manual_seed(0)
    frames, height, width = config.grid
    codes = torch.randint(config.codebook_size, (batch, frames, height, width), generator=generator)
    first = 10  # behind the special ids
    texts = torch.randint(
        first, config.text_vocab_size, (batch, config.text_len * 2 // 3), generator=generator
    )
    return SequenceLayout(config).pack(texts.tolist(), codes)


def loss_of(model: GPT, strip: Strip, dtype: str) -> Tensor:
    with forward_in(dtype):
        return strip_loss(model, strip).total


def operations(model: GPT, strip: Strip) -> int:
    """Multiplications and additions of the matrix products of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        loss_of(model, strip, "float32").backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a training step of the transformer.")
    parser.add_argument("--runs", type=int, default=10, help="timed steps of each type (10)")
    parser.add_argument("--batch", type=int, default=12, help="clips a step (12)")
    parser.add_argument("--n-layer", type=int, default=8)
    parser.add_argument("--d-model", type=int, default=256, help="a multiple of 64 (256)")
    options = parser.parse_args()
    heads = options.d_model // 64
    config = GPTConfig(
        n_layer=options.n_layer,
        n_head=heads,
        n_kv_head=heads,
        d_model=options.d_model,
        d_ff=options.d_model * 11 // 4,
    )
    names = [name for name in DTYPES if computes_in(name)]
    torch.manual_seed(0)
    strip, model = batch_of(config, options.batch), GPT(config)
    slots = int(strip.length.sum())
    work = operations(model, strip)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        losses = {name: float(loss_of(model, strip, name)) for name in names}
    if max(abs(loss / losses["float32"] - 1) for loss in losses.values()) > 0.02:
        raise SystemExit(f"losses differ: {losses}; nothing is timed.")
    times: dict[str, list[float]] = {name: [] for name in names}
    settings = OptimConfig(muon_prefixes=("blocks.",), save_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        trainers: dict[str, Trainer] = {}
        for name in names:
            own = GPT(config)
            own.load_state_dict(start)
            steps = WARM_UP + options.runs + 1  # one more than is made: the last would write a checkpoint
            trainers[name] = Trainer(own, settings, total_steps=steps, out=Path(folder) / name, run={})
        for _ in tqdm(range(WARM_UP + options.runs), file=sys.stderr):
            for name, trainer in trainers.items():

                def loss(trainer: Trainer = trainer, name: str = name) -> tuple[Tensor, dict[str, float]]:
                    return loss_of(trainer.model, strip, name), {}  # type: ignore[arg-type]

                began = time.perf_counter()
                trainer.step(loss)
                times[name].append(time.perf_counter() - began)
    report(options, config, slots, work, times)


def report(
    options: argparse.Namespace, config: GPTConfig, slots: int, work: int, times: dict[str, list[float]]
) -> None:
    parameters = sum(p.numel() for p in GPT(config).parameters())
    print(f"training  |  CPU, {torch.get_num_threads()} threads  torch {torch.__version__}")
    print(
        f"{config.n_layer} layers of {config.d_model}, {parameters / 1e6:.1f} M parameters, batch "
        f"{options.batch}, {slots} tokens, {work / 1e9:.0f} GFLOP a step\n"
    )
    print(
        f"{'type':<10}{'s a step':>10}{'[p20':>9}{'p80]':>9}{'tokens/s':>10}{'GFLOP/s':>10}"
        f"{'ceiling':>10}{'share':>8}"
    )
    rows: dict[str, Any] = {}
    for name, values in times.items():
        low, median, high = np.percentile(values[WARM_UP:], (20, 50, 80))
        limit, rate = ceiling(DTYPES[name]), work / median
        rows[name] = {
            "seconds": float(median),
            "tokens_a_second": slots / median,
            "flops": rate,
            "ceiling": limit,
            "share": rate / limit,
        }
        print(
            f"{name:<10}{median:>10.3f}{low:>9.3f}{high:>9.3f}{slots / median:>10.0f}{rate / 1e9:>10.1f}"
            f"{limit / 1e9:>10.1f}{rate / limit:>8.1%}"
        )
    for name in DTYPES.keys() - rows:
        print(f"{name}: not measured, this processor does not multiply it")
    print(json.dumps({"benchmark": "train", "n_layer": config.n_layer, "d_model": config.d_model,
                      "batch": options.batch, "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
