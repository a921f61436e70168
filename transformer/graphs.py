"""CUDA graphs: the blocks of a pass, recorded once, are launched at once instead of kernel by kernel.

A pass over a few codes is some hundred kernels, each shorter than its launch. Recording needs what passes of
a clip have anyway: equal shapes, one cache, and no look at a value from the host on the way. Replaying runs
the same kernels on the same addresses, so the bits are those of the pass as it is.

Off unless the environment variable KINOLENTA_GRAPHS is 1: no GPU was at hand. Checked on a CPU by a
simulation that records and replays operators (tests/transformer/test_graphs.py), not yet run on a GPU.
"""

import os
import threading
from typing import NamedTuple

import torch
from torch import Tensor

from kinolenta.kernels.attention import Causal
from kinolenta.kernels.backends import resolve
from kinolenta.transformer.stack import Stack

VARIABLE = "KINOLENTA_GRAPHS"
_recording = threading.Lock()  # one at a time in a process


def graphed(stack: Stack, memory: Tensor) -> "Stack | GraphedStack":
    """The stack, recorded if that is asked for and it runs on a GPU with our attention, which reads its mask
    from the GPU's memory.

    memory: of the cache, [..., head_dim].
    """
    device, dtype, width = memory.device, memory.dtype, memory.shape[-1]
    asked = device.type == "cuda" and os.environ.get(VARIABLE) == "1"
    return GraphedStack(stack) if asked and resolve("auto", device, dtype, width) == "triton" else stack


class _Recorded(NamedTuple):
    """A pass: what it reads (x, cos, sin and the mask's rows), what it writes, and the graph between them."""

    inputs: tuple[Tensor, Tensor, Tensor, Tensor]
    hidden: Tensor
    graph: torch.cuda.CUDAGraph


class GraphedStack:
    """A ``Stack`` on a GPU, for one cache: shapes that come again are recorded and replayed from then on.

    The first pass of a shape runs as it is, which also compiles its kernels; the second is recorded. What
    ``run`` returns is overwritten by the next pass of the same shape.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.met: set[torch.Size] = set()
        self.recorded: dict[torch.Size, _Recorded] = {}

    def run(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, cache: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """``Stack.run``; the cache is the same in every call, but for rows that are dropped from its end."""
        shape = x.shape
        if shape not in self.met:
            self.met.add(shape)
            return self.stack.run(x, cos, sin, mask, cache)
        if shape not in self.recorded:
            self.recorded[shape] = self._record(x, cos, sin, mask, cache)
        pass_ = self.recorded[shape]
        for held, new in zip(pass_.inputs, (x, cos, sin, _rows(mask, x, cache)), strict=True):
            held.copy_(new)
        pass_.graph.replay()
        return pass_.hidden

    def _record(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, cache: list[tuple[Tensor, Tensor]]
    ) -> _Recorded:
        held = Causal(start=mask.start, pad=mask.pad)  # remembers its rows, where the kernels read the mask
        inputs = (x.clone(), cos.clone(), sin.clone(), _rows(held, x, cache))
        _ = held.checked_start  # looked up now: a recording cannot read a value
        graph = torch.cuda.CUDAGraph()
        with _recording, torch.cuda.device(x.device):
            stream = torch.cuda.Stream(x.device)  # the usual one is made once, on whatever device is current
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                hidden = self.stack.run(*inputs[:3], held, cache)
        return _Recorded(inputs, hidden, graph)


def _rows(mask: Causal, x: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
    return mask.rows(x.shape[0], cache[0][0].shape[2], x.device)
