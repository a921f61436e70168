"""Why the transformer has LayerNorm and not RMSNorm: both, forward and backward, in one run.

    python benchmarks/norms.py --runs 20

Medians with 20th and 80th percentiles on a training batch of the demo model; the last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS, WIDTH, WARM_UP = 12 * 386, 256, 3


def milliseconds(norm: Callable[[Tensor, Tensor], Tensor], runs: int) -> list[float]:
    """20th percentile, median and 80th percentile of forward and backward."""
    x, gain = torch.randn(ROWS, WIDTH, requires_grad=True), torch.ones(WIDTH, requires_grad=True)
    times = []
    for _ in range(WARM_UP + runs):
        x.grad = gain.grad = None
        begin = time.perf_counter()
        norm(x, gain).sum().backward()
        times.append((time.perf_counter() - begin) * 1e3)
    return torch.tensor(times[WARM_UP:]).quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time LayerNorm and RMSNorm.")
    parser.add_argument("--runs", type=int, default=20, help="timed runs of each (20)")
    runs = parser.parse_args().runs
    rows = {
        "LayerNorm": milliseconds(lambda x, gain: F.layer_norm(x, (WIDTH,), gain), runs),
        "RMSNorm": milliseconds(lambda x, gain: F.rms_norm(x, (WIDTH,), gain), runs),
    }
    print(f"norms  |  CPU, {torch.get_num_threads()} threads  torch {torch.__version__}  [{ROWS}, {WIDTH}]")
    for name, (low, middle, high) in rows.items():
        print(f"{name:10} {middle:8.2f} ms [{low:.2f} {high:.2f}]")
    ratio = rows["RMSNorm"][1] / rows["LayerNorm"][1]
    print(f"RMSNorm takes {ratio:.1f} times as long")
    print(json.dumps({"benchmark": "norms", "milliseconds": rows, "ratio": ratio}))


if __name__ == "__main__":
    main()
