"""Our attention beside PyTorch's SDPA, FlexAttention and flash-attn, on a GPU.

    python benchmarks/attention.py --json attention.json

Forward, and forward with backward, for each mask; CUDA events, after a warm-up, medians with 20th and 80th
percentiles. A backend whose output or gradients disagree with the float64 definition is named and not timed.
Without a GPU there is nothing to time: it says so and prints benchmarks/kernel_report.py's report instead.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from kernel_report import DTYPES, MASKS  # beside this file; it also puts the checkout on the path
from kernel_report import main as report
from roofline import bound
from torch import Tensor

from kinolenta.kernels.attention import Causal, Mask, attention
from kinolenta.kernels.attention.reference import reference_attention
from kinolenta.kernels.tiles import forward_tile

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
WARM_UP, LEAST_RUNS, ROUGHEST = 5, 20, 3.0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time attention on a GPU.")
    parser.add_argument("--runs", type=int, default=50, help=f"timed runs, at least {LEAST_RUNS}")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args(arguments)


def backends(mask: Mask, slots: int, device: torch.device) -> tuple[dict[str, Attend], list[str]]:
    """What can compute this mask here, by name, and what is absent, with the reason."""
    found: dict[str, Attend] = {
        "ours": lambda q, k, v: attention(q, k, v, mask=mask, backend="triton"),
        "sdpa": lambda q, k, v: attention(q, k, v, mask=mask, backend="sdpa"),
    }
    absent = []
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    visible = mask.visible(slots, slots, device)[0, 0]
    blocks = create_block_mask(lambda b, h, i, j: visible[i, j], None, None, slots, slots, device=str(device))
    torch._dynamo.reset()  # every mask compiles anew, and would soon reach the limit of recompilations
    flex: Any = torch.compile(flex_attention)
    found["flex"] = lambda q, k, v: flex(q, k, v, block_mask=blocks)
    if not isinstance(mask, Causal):
        absent.append("flash-attn: has no such mask")
    else:
        try:
            from flash_attn import flash_attn_func
        except ImportError:
            absent.append("flash-attn: not installed")
        else:
            found["flash-attn"] = lambda q, k, v: flash_attn_func(
                *(x.transpose(1, 2) for x in (q, k, v)), causal=True
            ).transpose(1, 2)
    return found, absent


def gradients(attend: Attend, tensors: list[Tensor], grad: Tensor) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in tensors]
    out = attend(*leaves)
    out.backward(grad.to(out.dtype))
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


def error(found: list[Tensor], exact: list[Tensor]) -> float:
    """The largest relative root-mean-square error of the output and the three gradients."""
    return max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True))


def milliseconds(work: Callable[[], object], runs: int) -> list[float]:
    """20th percentile, median and 80th percentile."""
    for _ in range(WARM_UP):
        work()
    times = []
    for _ in range(runs):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return torch.tensor(times).quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()


def measure(name: str, mask: Mask, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Check, time and print every backend on one mask."""
    device, dtype = torch.device("cuda"), DTYPES[arguments.dtype]
    slots, runs = 66 + (mask.rule.num_codes or 1280), max(arguments.runs, LEAST_RUNS)
    torch.manual_seed(0)
    shape = (4, arguments.batch, arguments.heads, slots, arguments.head_dim)
    *tensors, grad = torch.randn(shape, device=device, dtype=dtype).unbind()
    few, scale = [x[:1] for x in tensors], arguments.head_dim**-0.5

    def definition(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return reference_attention(q, k, v, mask, scale)

    exact = gradients(definition, [x.double() for x in few], grad[:1])
    attends, absent = backends(mask, slots, device)
    errors = {key: error(gradients(attend, few, grad[:1]), exact) for key, attend in attends.items()}
    rows = []
    for key, attend in attends.items():
        if errors[key] > ROUGHEST * errors["sdpa"]:
            print(f"{name:15} {key:11} not timed: error {errors[key]:.1e}, SDPA's {errors['sdpa']:.1e}")
            continue
        with torch.no_grad():
            forward = milliseconds(partial(attend, *tensors), runs)
        both = milliseconds(partial(gradients, attend, tensors, grad), runs)
        times = "  ".join(f"{middle:9.3f} [{low:.3f} {high:.3f}]" for low, middle, high in (forward, both))
        print(f"{name:15} {key:11} {times}  {errors[key]:9.1e}")
        rows.append(
            {"mask": name, "backend": key, "forward_ms": forward, "both_ms": both, "error": errors[key]}
        )
    limit = bound(
        "forward",
        mask,
        forward_tile(dtype, arguments.head_dim, "cuda"),
        dtype=arguments.dtype,
        batch=arguments.batch,
        heads=arguments.heads,
        kv_heads=arguments.heads,
        slots=slots,
        d=arguments.head_dim,
    )
    least = ", ".join(f"{gpu} {us / 1e3:.3f}" for gpu, us in limit.microseconds.items())
    print(f"{name:15} least       {least}")
    for line in absent:
        print(f"{name:15} absent      {line}")
    return rows


def main() -> int:
    arguments = parse()
    if not torch.cuda.is_available():
        print("There is no GPU here: nothing is timed. What the compiler makes of the kernels:\n", flush=True)
        return report([])
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {arguments.dtype}")
    print("mask            backend     forward ms [p20 p80]     with backward ms [p20 p80]  error")
    figures = [row for name, mask in MASKS.items() for row in measure(name, mask, arguments)]
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
