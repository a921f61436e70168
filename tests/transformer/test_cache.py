import pytest
import torch

from kinolenta.transformer.cache import decode_step, prefill
from kinolenta.transformer.stable import row_stable
from tests.transformer.tiny import random_codes, tiny_gpt

TEXTS = [[5, 6, 7], [], [8] * 9]
NUM_CODES = 36  # a latent frame longer than trained


@pytest.mark.parametrize("texts", [TEXTS, [[8] * 9]], ids=["ragged", "full"])
@pytest.mark.parametrize("known", [0, 1, 12, 17])
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
def test_cached_step_equals_row_of_full_forward(
    texts: list[list[int]], known: int, heads: tuple[int, int]
) -> None:
    model = tiny_gpt(n_head=heads[0], n_kv_head=heads[1])
    codes = random_codes(model, len(texts), NUM_CODES)
    with torch.no_grad():
        strip = model.layout.pack(texts, codes)
        slots = model.layout.code_slots(strip) - 1
        hidden = model(strip).gather(1, slots[..., None].expand(-1, -1, 32))
        full = model.code_logits(hidden)
        cache, logits = prefill(model, model.layout.pack_prefill(texts, codes[:, :known]), NUM_CODES)
        torch.testing.assert_close(logits, full[:, known], atol=1e-5, rtol=1e-5)
        for index in range(known, NUM_CODES - 1):
            logits = decode_step(model, cache, codes[:, index : index + 1], index)
            torch.testing.assert_close(logits[:, 0], full[:, index + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [2, 5, 12, 30])
def test_window_equals_single_steps(n: int) -> None:
    model = tiny_gpt()
    codes = random_codes(model, 3, NUM_CODES)
    with torch.no_grad():
        strip = model.layout.pack_prefill(TEXTS, codes[:, :3])
        single, _ = prefill(model, strip, NUM_CODES)
        steps = [decode_step(model, single, codes[:, i : i + 1], i) for i in range(3, 3 + n)]
        wide, _ = prefill(model, strip, NUM_CODES)
        window = decode_step(model, wide, codes[:, 3 : 3 + n], 3)
    torch.testing.assert_close(window, torch.cat(steps, 1), atol=1e-5, rtol=1e-5)


def test_window_may_be_overwritten() -> None:
    model = tiny_gpt()
    codes, drafts = random_codes(model, 3, NUM_CODES), random_codes(model, 3, NUM_CODES, seed=1)
    with torch.no_grad():
        strip = model.layout.pack_prefill(TEXTS)
        clean, _ = prefill(model, strip, NUM_CODES)
        expected = decode_step(model, clean, codes[:, :20], 0)
        reused, _ = prefill(model, strip, NUM_CODES)
        decode_step(model, reused, drafts[:, :30], 0)
        decode_step(model, reused, codes[:, :8], 0)
        last = decode_step(model, reused, codes[:, 8:20], 8)
    torch.testing.assert_close(last, expected[:, 8:], atol=1e-5, rtol=1e-5)


def test_slots_not_yet_written_are_never_read() -> None:
    model = tiny_gpt()
    codes = random_codes(model, 3, NUM_CODES)
    with torch.no_grad():
        cache, _ = prefill(model, model.layout.pack_prefill(TEXTS), NUM_CODES)
        for keys, values in cache.layers:
            keys[:, :, model.layout.text_slots :] = float("nan")
            values[:, :, model.layout.text_slots :] = float("nan")
        assert decode_step(model, cache, codes[:, :7], 0).isfinite().all()


def test_row_stable_view_computes_the_same_and_shares_all_but_linear_weights() -> None:
    model = tiny_gpt()
    view = row_stable(model)
    strip = model.layout.pack(TEXTS, random_codes(model, 3))
    with torch.no_grad():
        torch.testing.assert_close(view(strip), model(strip), atol=1e-5, rtol=1e-5)
    assert view.text_table is model.text_table
    assert view.blocks[0].attention.qkv.weight.stride() == (1, 64 + 32)  # type: ignore[union-attr]
    again = row_stable(view)  # nothing left to copy
    assert again.previous_in.weight.data_ptr() == view.previous_in.weight.data_ptr()
