"""The Triton kernels, forward and every gradient, against the definition in float64.

Where there is no GPU they run in Triton's interpreter, which executes the same source.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, library

from kinolenta.kernels.attention import Causal, Column, Mask, Neighbourhood, Prefix, Row, attention
from kinolenta.kernels.attention.reference import reference_attention
from kinolenta.kernels.attention.sdpa import sdpa_attention

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZES = (1, 17, 63, 64, 100)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MASKS: dict[str, Callable[[int], Mask]] = {
    "causal": lambda n: Causal(),
    "padded": lambda n: Causal(pad=torch.tensor([n // 3, 0]), length=torch.tensor([n, n - n // 4])),
    "prefix": lambda n: Prefix(prefix=torch.tensor([n // 2, min(9, n)])),
    "row": lambda n: Row(code_start=torch.tensor([5, 11]), num_codes=64, width=8),
    "column": lambda n: Column(code_start=torch.tensor([5, 11]), num_codes=72, width=8),
    "neighbourhood": lambda n: Neighbourhood(
        code_start=torch.tensor([5, 11]), num_codes=96, height=4, width=8, window=(1, 1, 3)
    ),
    "conv": lambda n: Neighbourhood(code_start=9, num_codes=144, height=12, width=12, window=(0, 2, 2)),
    "wrapped": lambda n: Neighbourhood(
        code_start=9, num_codes=144, height=12, width=12, window=(0, 2, 2), wrap=True
    ),
}
CASES = [
    *itertools.product(SIZES, MASKS, DTYPES),
    *itertools.product([257], MASKS, [torch.float32]),
    *itertools.product([257], ["causal"], [torch.bfloat16, torch.float16]),
]


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Every new tensor is full of NaN until it is written."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def inputs(
    n: int, dtype: torch.dtype, *, heads: int = 2, kv_heads: int = 1, d: int = 64, s: int | None = None
) -> list[Tensor]:
    """q, k, v as a model has them: heads behind slots in memory, so not contiguous."""
    generator = torch.Generator().manual_seed(n * 31 + d)
    shapes = ((2, n, heads, d), (2, s or n, kv_heads, d), (2, s or n, kv_heads, d))
    made = (torch.randn(shape, generator=generator) for shape in shapes)
    return [x.to(DEVICE, dtype).transpose(1, 2) for x in made]


def on_device(mask: Mask) -> Mask:
    fields = {name: getattr(mask, name) for name in ("start", "pad", "length", "prefix", "code_start")
              if isinstance(getattr(mask, name, None), Tensor)}  # fmt: skip
    return replace(mask, **{name: value.to(DEVICE) for name, value in fields.items()})


def live_queries(mask: Mask, n: int) -> Tensor:
    """[2, 1, n, 1], False in dead slots."""
    slots = torch.arange(n, device=DEVICE)[None, None, :, None].expand(2, 1, n, 1)
    start = mask.start[:, None, None, None] if isinstance(mask.start, Tensor) else mask.start
    live = torch.ones_like(slots, dtype=torch.bool)
    if mask.pad is not None:
        live = live & (slots + start >= mask.pad[:, None, None, None])
    if mask.length is not None:
        live = live & (slots + start < mask.length[:, None, None, None])
    return live


def with_gradients(
    function: Callable[..., Tensor], tensors: list[Tensor], mask: Mask, grad: Tensor
) -> list[Tensor]:
    """Output and gradients of q, k, v in float64."""
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    out = function(*leaves, mask, leaves[0].shape[-1] ** -0.5)
    out.backward(grad.to(out.dtype))
    return [out.detach().double(), *(x.grad.double() for x in leaves if x.grad is not None)]


def triton(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
    return attention(q, k, v, mask=mask, scale=scale, backend="triton")


def check(tensors: list[Tensor], mask: Mask) -> None:
    """The figures of the project: docs/kernels.md."""
    mask, (q, dtype) = on_device(mask), (tensors[0], tensors[0].dtype)
    live = live_queries(mask, q.shape[2])
    grad = torch.randn(q.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype) * live
    got = with_gradients(triton, tensors, mask, grad)
    exact = with_gradients(reference_attention, [x.double() for x in tensors], mask, grad)
    peer = with_gradients(sdpa_attention, tensors, mask, grad)
    got[0], exact[0], peer[0] = (x * live for x in (got[0], exact[0], peer[0]))
    for number, (ours, truth, theirs) in enumerate(zip(got, exact, peer, strict=True)):
        assert ours.isfinite().all()
        error, allowed = rms(ours - truth), 2 * rms(theirs - truth)
        size = max(rms(truth), 0.1)  # a single slot's dq and dk are zero: nothing to be relative to
        if dtype == torch.float32:
            limit = max(allowed, 2e-7 * size) if number == 0 else 1e-5 * size
            assert number > 0 or (ours - truth).abs().max() <= 2e-6
        else:
            limit = max(allowed, torch.finfo(dtype).eps * size / 8)
        assert error <= limit + 1e-9, (
            f"{('output', 'dq', 'dk', 'dv')[number]}: {error:.2e}, limit {limit:.2e}"
        )


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@pytest.mark.parametrize(("n", "mask", "dtype"), CASES, ids=lambda value: str(value).removeprefix("torch."))
def test_output_and_gradients(n: int, mask: str, dtype: torch.dtype) -> None:
    check(inputs(n, dtype), MASKS[mask](n))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [16, 24, 80, 128])
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (3, 1)])
def test_head_widths_and_groups(dtype: torch.dtype, d: int, heads: int, kv_heads: int) -> None:
    check(inputs(50, dtype, heads=heads, kv_heads=kv_heads, d=d), MASKS["neighbourhood"](50))
    check(inputs(50, dtype, heads=heads, kv_heads=kv_heads, d=d), MASKS["padded"](50))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", MASKS)
def test_window_over_more_slots_than_queries(mask: str, dtype: torch.dtype) -> None:
    """Queries that start in the middle, at another slot in each row."""
    ragged = replace(MASKS[mask](140), start=torch.tensor([70, 33]))
    check(inputs(41, dtype, s=140), ragged)


def test_memory_behind_the_last_query_and_in_dead_slots_is_not_read() -> None:
    q, k, v = inputs(20, torch.float32, s=140)
    mask = on_device(Causal(start=70, pad=torch.tensor([66, 3])))
    clean = attention(q, k, v, mask=mask, backend="triton")
    for x in (k, v):
        x[:, :, 90:] = torch.nan
        x[0, :, :66] = torch.nan
        x[1, :, :3] = torch.nan
    assert torch.equal(attention(q, k, v, mask=mask, backend="triton"), clean)


def test_last_dimension_need_not_be_contiguous() -> None:
    q, k, v = (x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in inputs(33, torch.float32))
    assert q.stride(-1) != 1
    check([q, k, v], Causal())


def test_gradients_are_the_same_at_every_run() -> None:
    tensors, mask = inputs(100, torch.float32, heads=4, kv_heads=2), MASKS["neighbourhood"](100)
    grad = torch.ones_like(tensors[0])
    first, second = (with_gradients(triton, tensors, on_device(mask), grad) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("backend", ["auto", "triton"])
def test_compiled_in_one_graph(backend: str) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, mask=Causal(), backend=backend)

    torch.use_deterministic_algorithms(False)
    tensors = inputs(20, torch.float32, d=16)
    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), attend(*tensors), atol=2e-6, rtol=1e-5)


def test_operator_is_sound_for_autograd_and_compile() -> None:
    from kinolenta.kernels.attention.triton import attention_forward

    q, k, v = (x.requires_grad_() for x in inputs(20, torch.float32))
    rows = Causal().rows(2, 20, DEVICE)
    arguments = (q, k, v, rows, [int(number) for number in Causal().rule], 0.125)
    torch.use_deterministic_algorithms(False)
    library.opcheck(
        attention_forward,
        arguments,
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
