"""A small model learns the same with the kernels as without."""

import sys

import pytest
import torch

from kinolenta.transformer import GPT, GPTConfig, strip_loss

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")

STEPS = 50


def loss_curve(backend: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.setenv("KINOLENTA_KERNELS", backend)
    torch.manual_seed(0)
    config = GPTConfig(
        n_layer=1, n_head=2, n_kv_head=1, d_model=32, d_ff=64, text_vocab_size=30, text_dim=8, text_len=6,
        codebook_size=20, code_levels=(5, 4), grid=(2, 3, 3),
    )  # fmt: skip
    model = GPT(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    strip = model.layout.pack([[7, 8], []], torch.randint(20, (2, 18)))
    losses = []
    for _ in range(STEPS):
        loss = strip_loss(model, strip).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_loss_curve_is_that_of_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = loss_curve("triton", monkeypatch), loss_curve("sdpa", monkeypatch)
    assert theirs[-1] < theirs[0] - 1, "the model does not learn"
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-4
