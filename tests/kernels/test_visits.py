"""Which blocks the kernels load: every one with a live pair, once, and hardly any other."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kinolenta.kernels.attention import Causal, Column, Mask, Neighbourhood, Prefix, Row

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="loads are counted in the interpreter"),
]

D, MOST = 16, 1.3
MASKS: dict[str, tuple[int, Mask]] = {
    "causal": (300, Causal()),
    "padded": (300, Causal(pad=torch.tensor([131]), length=torch.tensor([250]))),
    "prefix": (300, Prefix(prefix=130)),
    "row": (600, Row(code_start=66, num_codes=500, width=32)),
    "column": (600, Column(code_start=66, num_codes=500, width=32)),
    "conv": (
        66 + 1024,
        Neighbourhood(code_start=66, num_codes=1024, height=32, width=32, window=(0, 5, 5)),
    ),
    "wrapped": (
        66 + 1024,
        Neighbourhood(code_start=66, num_codes=1024, height=32, width=32, window=(0, 5, 5), wrap=True),
    ),
    "neighbourhood": (
        66 + 1040,
        Neighbourhood(code_start=66, num_codes=1024, height=16, width=16, window=(1, 2, 2)),
    ),
}


class Loads:
    """Rows of watched tensors at which the interpreter loads tiles, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from triton.runtime.interpreter import InterpreterBuilder

        self.watched: dict[str, Tensor] = {}
        self.rows: dict[str, list[int]] = {}
        inner = InterpreterBuilder.create_masked_load

        def load(builder: Any, ptrs: Any, *arguments: Any) -> Any:
            if ptrs.data.ndim == 2:
                self.note(int(ptrs.data.flat[0]))
            return inner(builder, ptrs, *arguments)

        monkeypatch.setattr(InterpreterBuilder, "create_masked_load", load)

    def watch(self, **tensors: Tensor) -> None:
        self.watched, self.rows = tensors, {name: [] for name in tensors}

    def note(self, address: int) -> None:
        for name, tensor in self.watched.items():
            offset = address - tensor.data_ptr()
            if 0 <= offset < tensor.nbytes:
                self.rows[name].append(offset // (D * tensor.element_size()))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    yield Loads(monkeypatch)


def live_pairs(mask: Mask, n: int, block_q: int, block_k: int) -> set[tuple[int, int]]:
    """(query block, key block) of all blocks that hold a live pair; none of a dead query."""
    visible = mask.visible(n, n, torch.device("cpu"))[0, 0].clone()
    if mask.pad is not None and mask.length is not None:
        visible[: int(mask.pad)] = visible[int(mask.length) :] = False
    return {(i // block_q, j // block_k) for i, j in visible.nonzero().tolist()}


def check(visits: list[tuple[int, int]], live: set[tuple[int, int]]) -> None:
    assert len(set(visits)) == len(visits), "a block was loaded twice"
    assert live <= set(visits), "a live block was left out"
    assert len(visits) <= MOST * len(live), f"{len(visits)} blocks loaded, {len(live)} are live"


@pytest.mark.parametrize("name", MASKS)
def test_blocks_loaded_are_the_live_ones(name: str, loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton.runtime.interpreter as interpreter

    from kinolenta.kernels.attention.triton import attention_backward, attention_forward
    from kinolenta.kernels.tiles import dkv_tile, dq_tile, forward_tile

    n, mask = MASKS[name]
    q, k, v, grad = torch.randn(4, 1, 1, n, D, dtype=torch.float16).unbind()
    programs: list[int] = []
    inner = interpreter.InterpreterBuilder.set_grid_idx

    def set_grid_idx(builder: Any, x: int, y: int, z: int) -> None:
        programs.append(x)
        marks.append({name: len(rows) for name, rows in loads.rows.items()})
        inner(builder, x, y, z)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "set_grid_idx", set_grid_idx)
    rows, rule = mask.rows(1, n, q.device), [int(number) for number in mask.rule]

    def visited(tensor: str, first: int, count: int) -> list[list[int]]:
        """Rows of ``tensor`` that each of ``count`` programs loaded, from program ``first`` on."""
        ends = [mark[tensor] for mark in marks[first + 1 : first + count]]
        ends.append(marks[first + count][tensor] if first + count < len(marks) else len(loads.rows[tensor]))
        starts = [mark[tensor] for mark in marks[first : first + count]]
        return [loads.rows[tensor][a:b] for a, b in zip(starts, ends, strict=True)]

    marks: list[dict[str, int]] = []
    loads.watch(q=q, k=k)
    out, log_sums = attention_forward(q, k, v, rows, rule, 0.25)
    tile = forward_tile(q.dtype, D, "cuda")
    count = -(-n // tile.block_q)
    found = [
        (count - 1 - programs[number], row // tile.block_k)  # the forward kernel begins with the last queries
        for number, taken in enumerate(visited("k", 0, count))
        for row in taken
    ]
    check(found, live_pairs(mask, n, tile.block_q, tile.block_k))

    marks, tile = [], dq_tile(q.dtype, D, "cuda")
    programs.clear()
    loads.watch(q=q, k=k)
    attention_backward(grad, q, k, v, out, log_sums, rows, rule, 0.25)
    count_q = -(-n // tile.block_q)
    found = [  # programs 0 to count_q - 1 are those of the delta kernel
        (count_q - 1 - programs[count_q + number], row // tile.block_k)
        for number, taken in enumerate(visited("k", count_q, count_q))
        for row in taken
    ]
    check(found, live_pairs(mask, n, tile.block_q, tile.block_k))
    tile = dkv_tile(q.dtype, D, "cuda")
    count_k = -(-n // tile.block_k)
    found = [
        (row // tile.block_q, programs[2 * count_q + number])
        for number, taken in enumerate(visited("q", 2 * count_q, count_k))
        for row in taken
    ]
    check(found, live_pairs(mask, n, tile.block_q, tile.block_k))
