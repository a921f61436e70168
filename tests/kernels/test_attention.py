"""Every backend of ``attention`` against the equation in float64."""

import pytest
import torch
from torch import Tensor

from kinolenta.errors import ConfigError, ShapeError
from kinolenta.kernels.attention import BACKENDS, Causal, attention


def equation(q: Tensor, k: Tensor, v: Tensor, start: int, pad: list[int]) -> Tensor:
    """Row by row, slot by slot, in float64; NaN for queries in dead slots, of which nothing is promised."""
    out = torch.full(q.shape, torch.nan, dtype=torch.float64)
    group = q.shape[1] // k.shape[1]
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                seen = range(pad[b], start + i + 1)
                if not seen:
                    continue
                keys, values = k[b, h // group, list(seen)].double(), v[b, h // group, list(seen)].double()
                weights = (keys @ q[b, h, i].double() / q.shape[3] ** 0.5).softmax(0)
                out[b, h, i] = weights @ values
    return out


def random_qkv(n: int, s: int, h_kv: int = 4, batch: int = 2, d: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n * 1000 + s)
    shapes = (batch, 4, n, d), (batch, h_kv, s, d), (batch, h_kv, s, d)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("h_kv", [4, 2, 1])
@pytest.mark.parametrize("n", [1, 7, 17])
def test_training_attention_is_causal(backend: str, h_kv: int, n: int) -> None:
    q, k, v = random_qkv(n, n, h_kv)
    got = attention(q, k, v, mask=Causal(), backend=backend)
    torch.testing.assert_close(got.double(), equation(q, k, v, 0, [0, 0]), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("h_kv", [4, 2])
@pytest.mark.parametrize(("start", "n"), [(0, 9), (5, 1), (12, 1), (6, 5)])
@pytest.mark.parametrize("pad", [[0, 0], [3, 0], [5, 2]])
def test_window_over_left_padded_cache(backend: str, h_kv: int, start: int, n: int, pad: list[int]) -> None:
    q, k, v = random_qkv(n, start + n, h_kv)
    got = attention(q, k, v, mask=Causal(start=start, pad=torch.tensor(pad)), backend=backend)
    expected = equation(q, k, v, start, pad)
    live = ~expected.isnan()
    torch.testing.assert_close(got.double()[live], expected[live], atol=2e-6, rtol=1e-5)
    assert got.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_slots_after_the_window_are_not_seen(backend: str) -> None:
    q, k, v = random_qkv(3, 12)
    mask = Causal(start=4)
    before = attention(q, k, v, mask=mask, backend=backend)
    k[:, :, 7:], v[:, :, 7:] = 1e4, -1e4
    assert torch.equal(before, attention(q, k, v, mask=mask, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_dead_slots_stay_finite(backend: str) -> None:
    q, k, v = random_qkv(6, 6)
    assert attention(q, k, v, mask=Causal(pad=torch.tensor([6, 4])), backend=backend).isfinite().all()


def test_gradients_of_backends_agree() -> None:
    grads = []
    for backend in BACKENDS:
        leaves = [x.requires_grad_() for x in random_qkv(11, 11)]
        (attention(*leaves, mask=Causal(), backend=backend) ** 2).sum().backward()
        grads.append([x.grad for x in leaves])
    for reference, *others in zip(*grads, strict=True):
        for other in others:
            torch.testing.assert_close(other, reference, atol=2e-5, rtol=1e-4)


def test_scale_is_used() -> None:
    q, k, v = random_qkv(5, 5)
    expected = attention(q * 3, k, v, mask=Causal(), scale=0.25, backend="reference")
    for backend in BACKENDS:
        got = attention(q, k, v, mask=Causal(), scale=0.75, backend=backend)
        torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)


def test_environment_chooses_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = random_qkv(5, 5)
    monkeypatch.setenv("KINOLENTA_KERNELS", "reference")
    expected = attention(q, k, v, mask=Causal(), backend="reference")
    assert torch.equal(attention(q, k, v, mask=Causal()), expected)
    monkeypatch.setenv("KINOLENTA_KERNELS", "cuda")
    with pytest.raises(ConfigError, match="no kernel backend 'cuda'; choose one of auto, reference, sdpa"):
        attention(q, k, v, mask=Causal())


def test_unknown_backend_and_bad_shapes_are_refused() -> None:
    q, k, v = random_qkv(5, 5)
    with pytest.raises(ConfigError, match="no kernel backend 'fast'"):
        attention(q, k, v, mask=Causal(), backend="fast")
    with pytest.raises(ShapeError, match="h a multiple of h_kv"):
        attention(q, k[:, :3], v[:, :3], mask=Causal())
    with pytest.raises(ShapeError, match="from slot 1"):
        attention(q, k, v, mask=Causal(start=1))
