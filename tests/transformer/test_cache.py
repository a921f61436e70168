import sys

import pytest
import torch
from torch import Tensor

from kinolenta.transformer import GPT
from kinolenta.transformer.cache import KVCache, decode_window, prefill
from kinolenta.transformer.stable import row_stable
from tests.transformer.tiny import random_codes, tiny_gpt

TEXTS = [[5, 6, 7], [], [8] * 9]
NUM_CODES = 36  # a latent frame longer than trained


def start(model: GPT, texts: list[list[int]], codes: Tensor, copies: int = 1) -> tuple[KVCache, Tensor]:
    order = model.layout.order(range(3))
    cache, logits = prefill(model, model.layout.pack_prefill(texts * copies, order=order), copies)
    cache.codes[:] = codes
    return cache, logits


def window(model: GPT, cache: KVCache, begin: int | list[int], n: int) -> Tensor:
    starts = [begin] * len(cache.codes) if isinstance(begin, int) else begin
    hidden = decode_window(model, cache, starts, n)
    return cache.head(hidden)


@pytest.mark.parametrize("texts", [TEXTS, [[8] * 9]], ids=["ragged", "full"])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
def test_cached_step_equals_row_of_full_forward(
    texts: list[list[int]], copies: int, heads: tuple[int, int]
) -> None:
    model = tiny_gpt(n_head=heads[0], n_kv_head=heads[1])
    codes = random_codes(model, len(texts), NUM_CODES)
    with torch.no_grad():
        strip = model.layout.pack(texts * copies, codes.repeat(copies, 1))
        slots = model.layout.predicting_slots(strip)
        hidden = model(strip).gather(1, slots[..., None].expand(-1, -1, 32))
        full = model.code_logits(hidden)
        cache, logits = start(model, texts, codes, copies)
        torch.testing.assert_close(logits, full[:, 0], atol=1e-5, rtol=1e-5)
        for index in range(NUM_CODES - 1):
            logits = window(model, cache, index, 1)
            torch.testing.assert_close(logits[:, 0], full[:, index + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [2, 5, 12, 30])
def test_window_equals_single_steps_each_row_at_its_own_place(n: int) -> None:
    model = tiny_gpt()
    codes = random_codes(model, 3, NUM_CODES)
    with torch.no_grad():
        single, _ = start(model, TEXTS, codes)
        steps = torch.cat([window(model, single, i, 1) for i in range(NUM_CODES - 1)], 1)
        wide, _ = start(model, TEXTS, codes)
        for i in range(5):
            window(model, wide, i, 1)
        begin = [1, 5, 3]
        got = window(model, wide, begin, n)
    for row, first in enumerate(begin):
        torch.testing.assert_close(got[row], steps[row, first : first + n], atol=1e-5, rtol=1e-5)


def test_window_may_be_overwritten() -> None:
    model = tiny_gpt()
    codes, drafts = random_codes(model, 3, NUM_CODES), random_codes(model, 3, NUM_CODES, seed=1)
    with torch.no_grad():
        clean, _ = start(model, TEXTS, codes)
        expected = window(model, clean, 0, 20)
        reused, _ = start(model, TEXTS, drafts)
        window(model, reused, 0, 30)
        reused.codes[:] = codes
        window(model, reused, 0, 8)
        last = window(model, reused, 8, 12)
    torch.testing.assert_close(last, expected[:, 8:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "sdpa", "triton"])
def test_slots_not_yet_written_are_never_read(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_gpt(d_model=64)
    codes = random_codes(model, 3, NUM_CODES)
    monkeypatch.setenv("KINOLENTA_KERNELS", backend)
    with torch.no_grad():
        cache, _ = start(model, TEXTS, codes)
        expected = window(model, cache, 0, 7)
        for keys, values in cache.layers:
            keys[:, :, model.layout.text_slots :] = 1e20
            values[:, :, model.layout.text_slots :] = 1e20
        assert torch.equal(window(model, cache, 0, 7), expected)


def test_cached_steps_in_any_order_equal_the_rows_of_a_full_forward() -> None:
    model = tiny_gpt()
    orders = (
        [*range(24, 36), *range(24)],
        [*range(12), *range(24, 48)],
        [0, 12, 24, *range(1, 12), *range(13, 24), *range(25, 36)],
    )
    for listed in orders:
        order = torch.tensor(listed)
        codes = random_codes(model, 3, NUM_CODES)
        with torch.no_grad():
            strip = model.layout.pack(TEXTS, codes, order=order)
            slots = model.layout.predicting_slots(strip)
            full = model.code_logits(model(strip).gather(1, slots[..., None].expand(-1, -1, 32)))
            filled = model.layout.pack_prefill(TEXTS, order=order)
            cache, logits = prefill(model, filled)
            cache.codes[:] = codes
            torch.testing.assert_close(logits, full[:, 0], atol=1e-5, rtol=1e-5)
            got = window(model, cache, 0, NUM_CODES - 1)
            torch.testing.assert_close(got, full[:, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_the_kernels_say_what_sdpa_says(kv_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts padded on the left, grouped heads, a window at another place in each row."""
    model = tiny_gpt(d_model=64, n_head=4, n_kv_head=kv_heads)
    codes = random_codes(model, 3, NUM_CODES)
    said = {}
    for backend in ("triton", "sdpa"):
        monkeypatch.setenv("KINOLENTA_KERNELS", backend)
        with torch.no_grad():
            cache, first = start(model, TEXTS, codes)
            window(model, cache, 0, 8)
            said[backend] = first, window(model, cache, [8, 3, 0], 20)
    for ours, theirs in zip(said["triton"], said["sdpa"], strict=True):
        assert (ours - theirs).abs().max() < 4e-6 * theirs.abs().max()


@torch.inference_mode()
def test_a_text_runs_once_and_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = row_stable(tiny_gpt())
    order = model.layout.order(range(3))
    one, other = [5, 6, 7], [8] * 9
    runs: list[int] = []
    forward = GPT.forward
    monkeypatch.setattr(GPT, "forward", lambda *given: runs.append(len(given[1].length)) or forward(*given))

    def prefilled(texts: list[list[int]]) -> tuple[list[Tensor], Tensor]:
        cache, logits = prefill(model, model.layout.pack_prefill(texts, order=order))
        return [keys_or_values for pair in cache.layers for keys_or_values in pair], logits

    memory, logits = prefilled([one, other, one, [], []])
    assert runs == [1, 1, 1]
    for row, text in enumerate([one, other, one, [], []]):
        for more in ([], [[3], other]):
            alone, own = prefilled([text, *more])
            assert torch.equal(own[0], logits[row])
            assert all(torch.equal(a[0], b[row]) for a, b in zip(alone, memory, strict=True))
