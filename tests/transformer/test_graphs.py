"""Recorded passes, with a simulated recorder: it keeps operators and addresses, and runs no Python again.

As on a GPU, a replay computes the same operators on the same memory, and to look at a value while recording
is an error. What only a GPU shows stays unseen: what our attention does inside, for it is one operator here;
copies from the host; memory that is given away while a recording uses it; streams.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kinolenta.kernels.attention import Causal
from kinolenta.transformer import Generation, cache, generate, graphs
from kinolenta.transformer.graphs import GraphedStack, graphed
from kinolenta.transformer.stable import row_stable
from kinolenta.transformer.stack import stack_of
from tests.transformer.tiny import tiny_gpt

aten = torch.ops.aten
FORBIDDEN = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.is_nonzero,
    aten.lift_fresh,
    aten.equal,
    aten._unique2,
}


class Recorder(TorchDispatchMode):
    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in FORBIDDEN:
            raise RuntimeError(f"{func} while recording")
        out = func(*args, **(kwargs or {}))
        self.log.append((func, args, kwargs or {}, out))
        return out


class SimulatedGraph:
    """What torch.cuda.CUDAGraph is to a GPU."""

    made: list["SimulatedGraph"] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.replays = 0
        self.made.append(self)

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, out in self.log:
            returns = func._schema.returns
            again = func(*args, **kwargs)
            if not returns or returns[0].alias_info is None:  # others are views of what is up to date
                for held, new in zip(_tensors(out), _tensors(again), strict=True):
                    held.copy_(new)


def _tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [one for one in value if isinstance(one, Tensor)]


@contextmanager
def simulated_recording(graph: SimulatedGraph, **_: object) -> Iterator[None]:
    with Recorder(graph.log):
        yield
    for func, _, _, out in graph.log:  # a GPU only records: nothing has been computed yet
        if func._schema.returns and func._schema.returns[0].alias_info is None:
            for tensor in _tensors(out):
                if tensor.is_floating_point():
                    tensor.fill_(math.nan)


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOLENTA_KERNELS", "triton")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimulatedGraph)
    monkeypatch.setattr(torch.cuda, "graph", simulated_recording)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    SimulatedGraph.made = []


@torch.inference_mode()
def test_replayed_passes_are_the_passes() -> None:
    model = row_stable(tiny_gpt())
    config, generator = model.config, torch.Generator().manual_seed(1)
    shape = (config.n_layer, 2, 3, config.n_kv_head, 64, config.head_dim)
    memory = torch.randn(shape, generator=generator)
    plain, ours = ([(k.clone(), v.clone()) for k, v in memory.unbind()] for _ in range(2))
    stack = stack_of(model)
    recorded = GraphedStack(stack)
    for n, starts, pads in (
        (4, (20, 7, 30), (0, 3, 17)),
        (4, (24, 9, 31), (0, 3, 17)),
        (1, (25, 9, 35), (0, 3, 17)),
        (4, (26, 10, 35), (5, 1, 17)),
        (4, (1, 30, 50), (0, 2, 3)),
    ):
        x = torch.randn(3, n, config.d_model, generator=generator)
        cos, sin = model.rotary(*torch.randint(0, 9, (2, 3, n, 4), generator=generator))
        start, pad = torch.tensor(starts), torch.tensor(pads)
        wanted = stack.run(x, cos, sin, Causal(start=start, pad=pad), plain)
        found = recorded.run(x, cos, sin, Causal(start=start, pad=pad), ours)
        assert torch.equal(found, wanted)
        for (keys, values), (other_keys, other_values) in zip(plain, ours, strict=True):
            assert torch.equal(keys, other_keys) and torch.equal(values, other_values)
    assert [graph.replays for graph in SimulatedGraph.made] == [3]  # of the windows of 4, all but the first


@pytest.mark.parametrize("how", [{"window": 3}, {"decoding": "sequential"}])
def test_a_clip_drawn_with_recorded_passes_is_the_same(
    how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_gpt(grid=(2, 2, 2))
    options: dict[str, Any] = {"seeds": [3, 4], "guidance_scale": 2.0, **how}
    texts = [[5, 6, 7], [8]]
    wanted = generate(model, texts, **options)
    monkeypatch.setattr(cache, "graphed", lambda stack, memory: GraphedStack(stack))
    found = generate(model, texts, **options)
    assert torch.equal(found.codes, wanted.codes) and torch.equal(found.log_prob, wanted.log_prob)
    # but for the pass of the texts and the first window
    assert sum(graph.replays for graph in SimulatedGraph.made) == found.passes - 2


def test_recorded_clips_that_are_drawn_in_turn_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_gpt(grid=(3, 2, 2))
    monkeypatch.setattr(cache, "graphed", lambda stack, memory: GraphedStack(stack))
    alone = [generate(model, [[5, 6, 7]], seeds=[seed], window=3).codes for seed in (3, 4)]
    first, second = (Generation(model, [[5, 6, 7]], seeds=[seed], window=3) for seed in (3, 4))
    for _ in zip(first.frames(), second.frames(), strict=True):
        pass
    assert torch.equal(first.result().codes, alone[0]) and torch.equal(second.result().codes, alone[1])
    assert not torch.equal(*alone)


def test_only_a_gpu_with_our_attention_records_and_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of(tiny_gpt())
    assert graphed(stack, torch.zeros(2, 16)) is stack
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32, shape=(2, 16))
    monkeypatch.setattr(graphs, "resolve", lambda *_: "triton")
    assert graphed(stack, on_gpu) is stack
    monkeypatch.setenv("KINOLENTA_GRAPHS", "1")
    assert graphed(stack, torch.zeros(2, 16)) is stack
    monkeypatch.setattr(graphs, "resolve", lambda *_: "sdpa")
    assert graphed(stack, on_gpu) is stack
    monkeypatch.setattr(graphs, "resolve", lambda *_: "triton")
    assert isinstance(graphed(stack, on_gpu), GraphedStack)


def test_the_simulation_refuses_a_look_at_a_value() -> None:
    with pytest.raises(RuntimeError, match="while recording"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        int(torch.ones(3).sum())
