"""Our attention inside transformers' models: the same numbers as SDPA, padded, cached and grouped."""

import logging
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import kinolenta.register as register
from kinolenta import register_attention

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    register_attention()
    return LlamaForCausalLM(config).eval().to(DEVICE)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of queries of each call that ran in Triton."""
    seen: list[int] = []
    inner = register.attention

    def counted(q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
        assert kwargs["backend"] == "triton"
        seen.append(q.shape[2])
        return inner(q, k, v, **kwargs)

    monkeypatch.setattr(register, "attention", counted)
    monkeypatch.setenv("KINOLENTA_KERNELS", "triton")
    return seen


def logits(model: Any, name: str, ids: Tensor, mask: Tensor | None) -> Tensor:
    model.set_attn_implementation(name)
    with torch.no_grad():
        out: Tensor = model(input_ids=ids, attention_mask=mask).logits
    return out


def random_ids(batch: int, n: int) -> Tensor:
    return torch.randint(1, 50, (batch, n), generator=torch.Generator().manual_seed(n)).to(DEVICE)


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_llama_computes_as_with_sdpa(llama: Any, calls: list[int], side: str) -> None:
    ids, mask = random_ids(2, 19), torch.ones(2, 19, dtype=torch.int64, device=DEVICE)
    if side == "left":
        mask[0, :6] = 0
    elif side == "right":
        mask[1, 12:] = 0
    expected = logits(llama, "sdpa", ids, mask)
    got = logits(llama, register.NAME, ids, mask)
    live = mask.bool()
    torch.testing.assert_close(got[live], expected[live], atol=2e-5, rtol=1e-4)
    assert calls == [19, 19]


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_llama_generates_as_with_sdpa(llama: Any, calls: list[int], cache: str) -> None:
    ids, mask = random_ids(2, 9), torch.ones(2, 9, dtype=torch.int64, device=DEVICE)
    mask[1, :4] = 0
    made = {}
    for name in ("sdpa", register.NAME):
        llama.set_attn_implementation(name)
        made[name] = llama.generate(
            ids, attention_mask=mask, max_new_tokens=7, do_sample=False, cache_implementation=cache,
            disable_compile=True,
        )  # fmt: skip
    assert torch.equal(made["sdpa"], made[register.NAME])
    assert calls == [9, 9, *[1] * 12]


def test_llama_learns_as_with_sdpa(llama: Any, calls: list[int]) -> None:
    ids, grads = random_ids(2, 19), []
    for name in ("sdpa", register.NAME):
        llama.set_attn_implementation(name)
        llama.zero_grad()
        llama(input_ids=ids, labels=ids).loss.backward()
        grads.append(llama.model.layers[0].self_attn.k_proj.weight.grad.clone())
    torch.testing.assert_close(grads[1], grads[0], atol=1e-6, rtol=1e-4)
    assert calls == [19, 19]


def test_what_the_kernels_cannot_do_goes_to_sdpa_and_is_said_once(
    llama: Any, calls: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    ids, mask = random_ids(2, 12), torch.ones(2, 12, dtype=torch.int64, device=DEVICE)
    mask[0, 3:5] = 0  # a hole: two runs of live slots
    register._announce.cache_clear()
    expected = logits(llama, "sdpa", ids, mask)
    with caplog.at_level(logging.WARNING, logger="kinolenta.register"):
        got = logits(llama, register.NAME, ids, mask)
        logits(llama, register.NAME, ids, mask)
    assert torch.equal(got[mask.bool()], expected[mask.bool()]) and calls == []
    assert [record.message for record in caplog.records] == [
        "kinolenta_triton uses PyTorch's SDPA: the mask is not causal with one run of live slots a row."
    ]


def test_a_machine_without_a_gpu_uses_sdpa(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOLENTA_KERNELS", "sdpa")
    ids, mask = random_ids(2, 12), torch.ones(2, 12, dtype=torch.int64, device=DEVICE)
    mask[0, :5] = 0
    got, expected = (logits(llama, name, ids, mask)[mask.bool()] for name in (register.NAME, "sdpa"))
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
