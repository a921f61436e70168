"""Attention over a cache: right by the definition, and the same bits whatever comes beside a row."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinolenta.errors import ShapeError
from kinolenta.kernels.attention import Causal, Column, Mask, Neighbourhood, Prefix, Row, attention, sdpa
from kinolenta.kernels.backends import BACKENDS
from kinolenta.kernels.decode import decode_attention

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SLOTS, WINDOW = 304, 64
MASKS: dict[str, Callable[[Tensor, Tensor], Mask]] = {
    "causal": lambda start, pad: Causal(start=start, pad=pad),
    "row": lambda start, pad: Row(start=start, pad=pad, code_start=20, num_codes=256, width=16),
    "column": lambda start, pad: Column(start=start, pad=pad, code_start=20, num_codes=256, width=16),
    "wrapped": lambda start, pad: Neighbourhood(
        start=start, pad=pad, code_start=20, num_codes=256, height=16, width=16, window=(0, 2, 2), wrap=True
    ),
    "neighbourhood": lambda start, pad: Neighbourhood(
        start=start, pad=pad, code_start=20, num_codes=256, height=8, width=8, window=(1, 1, 2)
    ),
}


class Rows:
    """A batch of rows with a cache each, of which only the slots before ``start`` have been written."""

    def __init__(
        self,
        batch: int,
        dtype: torch.dtype = torch.float32,
        heads: int = 4,
        unwritten: float = torch.nan,
    ) -> None:
        generator = torch.Generator().manual_seed(3)

        def random(*shape: int) -> Tensor:
            return torch.randn(8, *shape, generator=generator)[:batch].to(DEVICE, dtype)

        d, kv_heads = 64, 2
        self.start = torch.tensor([130, 77, 200, 21, 235, 64, 63, 1])[:batch].to(DEVICE)
        self.pad = torch.tensor([3, 0, 17, 20, 0, 63, 5, 0])[:batch].to(DEVICE)
        self.q = random(WINDOW, heads, d).transpose(1, 2)
        self.k, self.v = random(kv_heads, WINDOW, d), random(kv_heads, WINDOW, d)
        slots = torch.arange(SLOTS, device=DEVICE)
        known = (slots >= self.pad[:, None]) & (slots < self.start[:, None])
        known = known[:, None, :, None].expand(-1, kv_heads, -1, d)
        self.keys = random(kv_heads, SLOTS, d).where(known, unwritten)
        self.values = random(kv_heads, SLOTS, d).where(known, unwritten)

    def decode(
        self,
        mask: Callable[[Tensor, Tensor], Mask],
        window: int,
        count: int = WINDOW,
        backend: str = "triton",
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of ``count`` new slots, ``window`` at a time, and what the cache holds then."""
        keys, values = self.keys.clone(), self.values.clone()
        outs = []
        for begin in range(0, count, window):
            part = slice(begin, min(begin + window, count))
            outs.append(
                decode_attention(
                    self.q[:, :, part],
                    self.k[:, :, part],
                    self.v[:, :, part],
                    (keys, values),
                    mask=mask(self.start + begin, self.pad),
                    backend=backend,
                )
            )
        return torch.cat(outs, 2), keys, values


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_window_is_the_definition_over_the_filled_cache(mask: str, dtype: torch.dtype) -> None:
    rows = Rows(2, dtype)
    got, keys, values = rows.decode(MASKS[mask], WINDOW)
    exact = Rows(2, torch.float64)
    for name in ("q", "k", "v", "keys", "values"):
        setattr(exact, name, getattr(rows, name).double())
    exact.keys, exact.values = exact.keys.nan_to_num(), exact.values.nan_to_num()
    expected, all_keys, all_values = exact.decode(MASKS[mask], WINDOW, backend="reference")
    limit = 2e-6 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    assert (got.double() - expected).abs().max() <= limit
    for held, whole in ((keys, all_keys), (values, all_values)):
        for row, stop in enumerate((rows.start + WINDOW).tolist()):
            written = held[row, :, int(rows.pad[row]) : stop].double()
            assert torch.equal(written, whole[row, :, int(rows.pad[row]) : stop])


@pytest.fixture
def rows_of_a_tile_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted, a tile is multiplied by NumPy, whose library treats its rows unlike each other on some
    processors, which is nothing that the kernel does: so each row is multiplied alone.
    """
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        product = np.matmul(a.data[..., None, :], b.data[..., None, :, :], dtype=d.data.dtype)[..., 0, :]
        return TensorHandle(product + d.data, d.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)


@pytest.mark.usefixtures("rows_of_a_tile_alone")
@pytest.mark.parametrize("mask", ["causal", "neighbourhood"])
@pytest.mark.parametrize(
    ("backend", "dtype"), [("sdpa", torch.float32), ("sdpa", torch.bfloat16), ("triton", torch.float32)]
)
def test_bits_do_not_depend_on_the_window(mask: str, backend: str, dtype: torch.dtype) -> None:
    rows = Rows(2, dtype, heads=2, unwritten=torch.nan if backend == "triton" else 7.0)
    whole, keys, _ = rows.decode(MASKS[mask], WINDOW, backend=backend)
    for window, count in ((1, 9), (2, 8), (7, 35), (16, 64), (33, 64)):
        part, part_keys, _ = rows.decode(MASKS[mask], window, count, backend)
        assert torch.equal(part, whole[:, :, :count])
        if count == WINDOW:
            assert torch.equal(part_keys.nan_to_num(), keys.nan_to_num())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", ["sdpa", "triton"])
def test_bits_do_not_depend_on_the_batch(dtype: torch.dtype, backend: str) -> None:
    unwritten = torch.nan if backend == "triton" else 7.0
    whole, _, _ = Rows(8, dtype, heads=2, unwritten=unwritten).decode(MASKS["causal"], 16, 16, backend)
    for batch in range(1, 8):
        few = Rows(batch, dtype, heads=2, unwritten=unwritten).decode(MASKS["causal"], 16, 16, backend)[0]
        assert torch.equal(few, whole[:batch])
    last = Rows(8, dtype, heads=2, unwritten=unwritten)
    for name in ("q", "k", "v", "keys", "values", "start", "pad"):
        setattr(last, name, getattr(last, name)[5:6])
    assert torch.equal(last.decode(MASKS["causal"], 16, 16, backend)[0], whole[5:6])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("slots", "width", "pads"), [
    (400, 64, [50, 64, 20]),
    (704, 64, [3, 64, 0]),
    (386, 64, [50, 64, 20]),  # slots that fill no registers
    (400, 128, [50, 64, 20]),  # too wide for 4 queries
    (400, 8, [50, 64, 20]),  # narrow: what is left of fours would take another routine
])  # fmt: skip
def test_bits_do_not_depend_on_place_or_neighbours(
    slots: int, width: int, pads: list[int], threads: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        keys, values = (torch.randn(3, 2, slots, width, dtype=dtype) for _ in range(2))
        new_q, new_k, new_v = (torch.randn(3, 4 if i == 0 else 2, 120, width, dtype=dtype) for i in range(3))

        def attend(rows: list[int], begin: list[int], window: int, offset: int) -> torch.Tensor:
            """Queries offset .. offset + window - 1 of each row, which stand from begin + offset on."""
            cache = keys[rows].clone(), values[rows].clone()
            for row, first in enumerate(begin):  # everything before them is in the cache
                for held, new in zip(cache, (new_k, new_v), strict=True):
                    held[row, :, first : first + offset] = new[rows[row], :, :offset]
            part = slice(offset, offset + window)
            mask = Causal(start=torch.tensor(begin) + offset, pad=torch.tensor([pads[row] for row in rows]))
            return decode_attention(
                new_q[rows, :, part],
                new_k[rows, :, part],
                new_v[rows, :, part],
                cache,
                mask=mask,
                backend="sdpa",
            )

        begin = [66, 200, 130] if slots <= 400 else [66, 500, 130]
        whole = attend([0, 1, 2], begin, 64, 0)
        for row in range(3):
            for offset in (0, 1, 17, 40, 63):
                alone = attend([row], begin[row : row + 1], 1, offset)
                assert torch.equal(alone[0, :, 0], whole[row, :, offset])
        for window in (5, 7, 31, 33, 63):
            assert torch.equal(attend([0], begin[:1], window, 0)[0], whole[0, :, :window])
        assert torch.equal(attend([2, 0], [130, 66], 24, 40), whole[[2, 0], :, 40:64])
        # A neighbour that stands near the beginning, even in a dead slot, changes nothing either.
        early = attend([0, 1, 2], [begin[0], 5, begin[2]], 24, 0)
        assert torch.equal(early[[0, 2]], whole[[0, 2], :, :24])
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(DEVICE.type != "cpu", reason="of a CPU's library")
@pytest.mark.parametrize("slots", [272, 336, 400, 704])
@pytest.mark.parametrize("heads", [4, 2])
def test_slots_are_left_out_only_where_that_keeps_the_bits(
    slots: int, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, count, 64, 64) for count in (4, heads, heads))
    held = [torch.randn(1, heads, slots, 64) for _ in range(2)]

    def attend(start: int, n: int) -> Tensor:
        cache = (held[0].clone(), held[1].clone())
        mask = Causal(start=torch.tensor([start]))
        return decode_attention(q[:, :, :n], k[:, :, :n], v[:, :, :n], cache, mask=mask, backend="sdpa")

    cases = [(start, n) for start in range(8, slots - 64, 24) for n in (1, 5, 24, 40)]
    got = [attend(*case) for case in cases]
    monkeypatch.setattr(sdpa, "_keeps_bits", lambda *shapes: False)  # all slots are looked at
    assert all(torch.equal(one, attend(*case)) for one, case in zip(got, cases, strict=True))
    q, k = q[:, :, :24], k.new_zeros(1, heads, slots, 64)
    assert sdpa._enough(100, 24, q, k) == slots
    monkeypatch.setattr(sdpa, "_keeps_bits", lambda *shapes: True)
    assert sdpa._enough(100, 24, q, k) == 128 and sdpa._enough(slots - 1, 24, q, k) == slots
    assert sdpa._enough(100, 24, q.bfloat16(), k) == slots and sdpa._enough(100, 24, q[:, :1], k) == slots
    with torch.autocast("cpu"):
        assert sdpa._enough(100, 24, q, k) == slots


@pytest.mark.parametrize("backend", BACKENDS)
def test_slots_behind_the_cache_are_refused_and_not_written(backend: str) -> None:
    q, k, v = (torch.randn(2, 2, 4, 16, device=DEVICE) for _ in range(3))
    cache = tuple(torch.zeros(2, 2, 64, 16, device=DEVICE) for _ in range(2))
    mask = Causal(start=torch.tensor([10, 62], device=DEVICE))
    with pytest.raises(ShapeError, match=r"start \+ n <= slots"):
        decode_attention(q, k, v, cache, mask=mask, backend=backend)  # type: ignore[arg-type]
    assert not any(held.any() for held in cache)
    with pytest.raises(ShapeError, match="run the whole prefix first"):
        decode_attention(q, k, v, cache, mask=Prefix(start=10, prefix=40), backend=backend)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_prefix_that_is_in_the_cache_is_seen(backend: str) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 4, 16, device=DEVICE) for _ in range(3))
    held = [torch.randn(2, 2, 64, 16, device=DEVICE) for _ in range(2)]
    mask = Prefix(start=torch.tensor([20, 40], device=DEVICE), prefix=20)
    expected, got = (
        decode_attention(q, k, v, tuple(x.clone() for x in held), mask=mask, backend=name)  # type: ignore[arg-type]
        for name in ("reference", backend)
    )
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)


def test_a_mask_that_inference_has_used_may_be_trained_with() -> None:
    mask = Causal(pad=torch.tensor([2, 0], device=DEVICE))
    q, k, v = (torch.randn(2, 2, 20, 16, device=DEVICE) for _ in range(3))
    with torch.inference_mode():
        attention(q, k, v, mask=mask, backend="triton")
    q.requires_grad_()
    attention(q, k, v, mask=mask, backend="triton").sum().backward()
    assert q.grad is not None and q.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_appends_and_attends(backend: str) -> None:
    rows = Rows(2, heads=2)
    rows.keys, rows.values = rows.keys.nan_to_num(), rows.values.nan_to_num()
    for start in (rows.start, 40):
        rows.start = start  # type: ignore[assignment]
        expected, keys, values = rows.decode(lambda start, pad: Causal(start=start), 5, 10, "reference")
        got, held_keys, held_values = rows.decode(lambda start, pad: Causal(start=start), 5, 10, backend)
        torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)
        assert torch.equal(held_keys, keys) and torch.equal(held_values, values)


def test_long_prompt_is_taken_too() -> None:
    q, k, v = torch.randn(3, 1, 2, 100, 16, device=DEVICE).unbind()
    cache = (torch.full((1, 2, 120, 16), torch.nan, device=DEVICE), torch.zeros(1, 2, 120, 16, device=DEVICE))
    expected = decode_attention(
        q, k, v, (cache[0].clone(), cache[1].clone()), mask=Causal(), backend="reference"
    )
    got = decode_attention(q, k, v, cache, mask=Causal(), backend="triton")
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)
    assert torch.equal(cache[0][:, :, :100], k)


def test_a_cache_that_is_laid_out_in_two_ways_is_refused() -> None:
    q, k, v = torch.zeros(3, 1, 2, 4, 16, device=DEVICE).unbind()
    keys, values = torch.zeros(2, 1, 2, 10, 16, device=DEVICE).unbind()
    for cache in (
        (keys, values.transpose(1, 2).contiguous().transpose(1, 2)),
        (keys.mT.contiguous().mT, values),
    ):
        with pytest.raises(ShapeError, match="laid out alike"):
            decode_attention(q, k, v, cache, mask=Causal(), backend="triton")


def test_bad_shapes_are_refused() -> None:
    q, k, v = torch.zeros(3, 1, 2, 4, 16).unbind()
    cache = (torch.zeros(1, 2, 10, 16), torch.zeros(1, 2, 10, 16))
    with pytest.raises(ShapeError, match="from slot 7 of a cache"):
        decode_attention(q, k, v, cache, mask=Causal(start=7))
    with pytest.raises(ShapeError, match="a multiple of h_kv"):
        decode_attention(q, k[:, :1], v[:, :1], cache, mask=Causal())
