"""CUDA graphs: a pass that was recorded once is replayed, so that a GPU never waits for Python.

A pass over a few codes is some hundred kernels, each shorter than its launch. Recording needs what passes of
a clip have anyway: equal shapes, one cache, and no look at a value from the host on the way. Replaying runs
the same kernels on the same addresses, so the bits are those of the pass as it is.

No GPU was at hand: proven by a simulation that records and replays operators (tests/transformer/
test_graphs.py), not yet run on one.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kinolenta.kernels.attention import Causal
from kinolenta.kernels.backends import resolve
from kinolenta.transformer.stack import Stack


def graphed(stack: Stack, memory: Tensor) -> "Stack | GraphedStack":
    """The stack, recorded if it runs on a GPU with our attention, which reads its mask from the GPU's memory.

    memory: of the cache, [..., head_dim].
    """
    device, dtype, width = memory.device, memory.dtype, memory.shape[-1]
    ours = device.type == "cuda" and resolve("auto", device, dtype, width) == "triton"
    return GraphedStack(stack) if ours else stack


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
        """``Stack.run``; the cache is the same in every call."""
        shape = x.shape
        if shape not in self.met:
            self.met.add(shape)
            return self.stack.run(x, cos, sin, mask, cache)
        rows = mask.rows(shape[0], cache[0][0].shape[2], x.device)
        if shape not in self.recorded:
            self.recorded[shape] = self._record(x.clone(), cos.clone(), sin.clone(), rows, mask, cache)
        pass_ = self.recorded[shape]
        for held, new in zip(pass_.inputs, (x, cos, sin, rows), strict=True):
            held.copy_(new)
        pass_.graph.replay()
        return pass_.hidden

    def _record(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        rows: Tensor,
        mask: Causal,
        cache: list[tuple[Tensor, Tensor]],
    ) -> _Recorded:
        """rows: those of the mask, which remembers them; the recorded kernels read the mask from there."""
        _ = mask.checked_start  # remembered as well, for to look at it is what a recording cannot do
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            hidden = self.stack.run(x, cos, sin, mask, cache)
        return _Recorded((x, cos, sin, rows), hidden, graph)
