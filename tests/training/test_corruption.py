"""Wrong codes among the inputs: how many, which, and nothing else."""

import torch

from kinolenta.training.corruption import corrupt, draft
from kinolenta.transformer.loss import strip_loss
from tests.transformer.tiny import random_codes, tiny_gpt

MODEL = tiny_gpt(grid=(4, 3, 4))
CODES = random_codes(MODEL, 64)
STRIP = MODEL.layout.pack([[5, 6]] * 64, CODES, [[7]] * 64)


def test_half_of_the_rows_are_clean_and_the_others_wrong_up_to_a_share() -> None:
    shown = corrupt(STRIP, MODEL.config, 0.5, torch.Generator().manual_seed(0))
    wrong = MODEL.layout.unpack(shown).codes != CODES
    clean = ~wrong.any(1)
    assert 20 <= int(clean.sum()) <= 44
    assert 0.1 < float(wrong[~clean].float().mean()) < 0.35
    assert float(wrong.float().mean(1).max()) < 0.7
    outside = torch.ones_like(STRIP.token_ids, dtype=torch.bool)
    outside.scatter_(1, MODEL.layout.code_slots(STRIP), False)
    assert torch.equal(shown.token_ids[outside], STRIP.token_ids[outside])


def test_wrong_codes_are_codes_and_follow_the_generator() -> None:
    one, other, third = (
        corrupt(STRIP, MODEL.config, 0.9, torch.Generator().manual_seed(seed)).token_ids for seed in (1, 1, 2)
    )
    assert torch.equal(one, other) and not torch.equal(one, third)
    for levels in (MODEL.config.code_levels, ()):
        config = tiny_gpt(grid=(4, 3, 4), code_levels=levels).config
        shown = corrupt(STRIP, config, 0.9, torch.Generator().manual_seed(3))
        codes = MODEL.layout.unpack(shown).codes
        assert codes.min() >= 0 and codes.max() < 60


def test_a_neighbours_code_is_that_of_a_place_next_to_it_in_any_order() -> None:
    model = tiny_gpt(grid=(4, 3, 4), code_levels=())
    named = torch.arange(48).view(1, 4, 3, 4).expand(64, -1, -1, -1)  # each code is the index of its place
    strip = model.layout.pack([[5]] * 64, named)
    shown = corrupt(strip, model.config, 0.9, torch.Generator().manual_seed(0))
    there, wrong = (model.layout.unpack(some).codes for some in (strip, shown))
    steps = (wrong - there)[wrong != there].abs()
    near = torch.isin(steps, torch.tensor([1, 4, 12]))
    assert 0.4 < float(near.float().mean()) < 0.8  # a code at random hits one time in ten


def test_the_loss_is_that_of_the_right_codes() -> None:
    shown = corrupt(STRIP, MODEL.config, 0.9, torch.Generator().manual_seed(1))
    with torch.no_grad():
        hidden = MODEL(shown).gather(
            1, (MODEL.layout.code_slots(STRIP) - 1)[..., None].expand(-1, -1, MODEL.config.d_model)
        )
        expected = -MODEL.code_logits(hidden).log_softmax(-1).gather(2, CODES[..., None]).mean()
        got = strip_loss(MODEL, STRIP, shown).code_nats.mean()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_drafts_are_windows_of_the_models_own_draws_in_half_of_the_rows() -> None:
    shown = draft(MODEL, STRIP, 9, torch.Generator().manual_seed(0))
    wrong = MODEL.layout.unpack(shown).codes != CODES
    assert not wrong[32:].any()
    places = wrong[:32].float().cumsum(1)
    spans = [row.nonzero().flatten() for row in wrong[:32]]
    assert all(int(span[-1] - span[0]) < 9 for span in spans if len(span))
    assert float(places[:, -1].mean()) > 6  # of 9; now and then the model draws the right one
    assert len({int(span[0]) for span in spans if len(span)}) > 10
    assert torch.equal(shown.token_ids[:, :3], STRIP.token_ids[:, :3])
    again, other = (draft(MODEL, STRIP, 9, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(again.token_ids, shown.token_ids) and not torch.equal(other.token_ids, shown.token_ids)


def test_a_draft_is_drawn_from_what_the_model_says_there() -> None:
    sure = tiny_gpt(grid=(4, 3, 4))
    with torch.no_grad():
        sure.code_head.own.mul_(1e4)  # so that its likeliest code is the one that it draws
        shown = draft(sure, STRIP, 100, torch.Generator().manual_seed(0))  # longer than a clip: all of it
        rows = STRIP.rows(slice(32))
        slots = sure.layout.code_slots(rows)
        hidden = sure(rows).gather(1, (slots - 1)[..., None].expand(-1, -1, sure.config.d_model))
    likeliest = sure.code_logits(hidden).argmax(-1)
    assert (sure.layout.unpack(shown).codes[:32] == likeliest).float().mean() > 0.99
    assert torch.equal(shown.token_ids[32:], STRIP.token_ids[32:])


def test_of_a_single_row_the_window_is_a_draft_too() -> None:
    strip = STRIP.rows([0])
    drafted = [draft(MODEL, strip, 8, torch.Generator().manual_seed(seed)).token_ids for seed in range(4)]
    assert any(not torch.equal(one, strip.token_ids) for one in drafted)
