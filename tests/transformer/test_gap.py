"""A code with a gap before it looks at none of the codes in the gap, and so many can be drawn at once."""

import pytest
import torch
from torch import Tensor

from kinolenta.errors import ConfigError
from kinolenta.training.corruption import corrupt, draft
from kinolenta.transformer import GPT, SequenceLayout, generate
from kinolenta.transformer.loss import strip_loss
from kinolenta.transformer.reading import Reading
from tests.transformer.tiny import random_codes, tiny_config, tiny_gpt

GRID = (3, 3, 4)
GAPS = [1, 3, 5, 11]


def predicted(model: GPT, codes: Tensor) -> Tensor:
    """Hidden states [b, n, d] that say each code of [b, n]."""
    with torch.no_grad():
        strip = model.layout.pack([[5, 6]] * len(codes), codes)
        return model(strip)[:, model.layout.predicting_slots(strip)[0]]


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("scan", ["raster", "quarters_back"])
def test_a_code_looks_at_all_codes_before_its_gap_and_at_no_other(gap: int, scan: str) -> None:
    model = tiny_gpt(grid=GRID, gap=gap, scan=scan)
    codes, numbers = random_codes(model, 1), torch.arange(36)
    plain, others = predicted(model, codes)[0], (codes + 1) % 60
    seen = model.layout.seen(numbers)
    assert seen.tolist() == [
        number if number <= gap else max(gap, number - gap) for number in numbers.tolist()
    ]
    unseen = predicted(model, others.where(numbers >= seen[:, None], codes))  # a row for each code
    torch.testing.assert_close(unseen[numbers, numbers], plain)
    last = predicted(model, others.where(numbers == seen[:, None] - 1, codes))
    moved = (last[numbers, numbers] - plain).abs().amax(1)
    assert (moved[1:] > 1e-3).all() and moved[0] < 1e-5


def test_a_strip_with_a_gap_written_out() -> None:
    layout = SequenceLayout(tiny_config(scan="raster", gap=2))
    code = layout.config.text_vocab_size
    strip = layout.pack([[7]], torch.arange(24)[None], [[5]])
    held = [0, 1, *range(24)]
    assert strip.token_ids[0, 3 : 3 + 26].tolist() == [code + number for number in held]
    assert (strip.num_codes, strip.num_slots, strip.length.tolist()) == (24, 26, [32])
    keys, queries = layout.positions(strip)
    places = [[0, t, h, w] for t in range(2) for h in range(3) for w in range(4)]
    assert keys[0, 3 : 3 + 26].tolist() == [places[number] for number in held]
    assert queries[0, 3 : 3 + 23].tolist() == places[:23]  # each from left of what it predicts
    target, earlier = layout.targets(strip)
    assert target[0, 2:29].tolist() == list(range(27)) and (target[0, 29:] == -1).all()
    assert earlier[0, 2:29].tolist() == [60] * 12 + list(range(15))


@pytest.mark.parametrize("num_codes", [0, 1, 2, 3, 4, 23, 24])
def test_unpack_inverts_pack(num_codes: int) -> None:
    model = tiny_gpt(gap=3)
    codes = random_codes(model, 2, num_codes)
    for strip in (
        model.layout.pack([[7], []], codes, [[5, 6], None]),
        model.layout.pack_prefill([[7], []], codes),
    ):
        got = model.layout.unpack(strip)
        assert got.left == [[7], []] and torch.equal(got.codes, codes)
        others = random_codes(model, 2, num_codes, seed=1)
        again = model.layout.unpack(model.layout.with_codes(strip, others))
        assert torch.equal(again.codes, others) and (again.left, again.right) == (got.left, got.right)


@pytest.mark.parametrize("gap", GAPS)
def test_what_stood_a_frame_before_is_said_only_where_it_is_seen(gap: int) -> None:
    model = tiny_gpt(grid=(2, 3, 4), gap=gap)
    order = torch.arange(24).view(2, 12).t().flatten()  # each place in both frames, one after the other
    strip = model.layout.pack([[7]], random_codes(model, 1), order=order)
    _, earlier = model.layout.targets(strip)
    assert (earlier[0, model.layout.predicting_slots(strip)[0]] == 60)[gap + 1 :].all()


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("known", [0, 1, 4, 12, 35])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_parallel_equals_sequential_in_few_passes(gap: int, known: int, guidance_scale: float) -> None:
    model = tiny_gpt(grid=GRID, gap=gap)
    texts, seeds, given = [[5, 6, 7], [], [8] * 9], [1, 2, 3], random_codes(model, 3, known)
    options = {"num_latent_frames": 3, "guidance_scale": guidance_scale}
    slow = generate(model, texts, seeds=seeds, known_codes=given, decoding="sequential", **options)  # type: ignore[arg-type]
    for window in (None, 2, gap + 1, 40):
        fast = generate(model, texts, seeds=seeds, known_codes=given, window=window, **options)  # type: ignore[arg-type]
        assert torch.equal(fast.codes, slow.codes) and torch.equal(fast.log_prob, slow.log_prob)
    alone = generate(model, texts[1:2], seeds=seeds[1:2], known_codes=given[1:2], **options)  # type: ignore[arg-type]
    assert torch.equal(alone.codes, slow.codes[1:2])
    first = gap + 1  # codes that look at all before them
    assert alone.passes <= 2 + known // 32 + max(0, first - known) + -(-(36 - first) // (gap + 1))


@pytest.mark.parametrize("gap", GAPS)
def test_log_probs_of_a_clip_are_those_of_its_strip(gap: int) -> None:
    model = tiny_gpt(grid=GRID, gap=gap)
    made = generate(model, [[5, 6]], seeds=[4])
    order = model.layout.order(range(3))
    codes = made.codes.flatten(1)[:, order]
    with torch.no_grad():
        nats = model.code_logits(predicted(model, codes)[0]).log_softmax(-1)
    total = nats.gather(1, codes[0][:, None]).sum()
    torch.testing.assert_close(made.log_prob[0].float(), total, atol=1e-3, rtol=1e-4)
    mean = strip_loss(model, model.layout.pack([[5, 6]], codes)).code_nats.mean()
    torch.testing.assert_close(mean, -total / 36, atol=1e-4, rtol=1e-4)


def test_a_text_behind_the_codes_sees_them_all() -> None:
    model = tiny_gpt(grid=GRID, gap=5)
    codes = random_codes(model, 1).view(1, *GRID)
    others = torch.where(torch.eye(36, dtype=torch.bool), (codes.flatten(1) + 1) % 60, codes.flatten(1))
    both = torch.cat((codes, others.view(36, *GRID)))
    found = Reading(model, both).log_probs([[9, 8]] * 37, range(37))
    assert ((found[1:] - found[0]).abs() > 1e-3).all()


def test_wrong_codes_and_drafts_are_wrong_in_both_of_their_slots() -> None:
    model = tiny_gpt(grid=GRID, gap=5)
    strip = model.layout.pack([[5], []], random_codes(model, 2))
    for change in (
        lambda generator: corrupt(strip, model.config, 0.9, generator),
        lambda generator: draft(model, strip, 36, generator),
    ):
        found = torch.zeros(36, dtype=torch.bool)
        for seed in range(40):
            shown = change(torch.Generator().manual_seed(seed))
            assert torch.equal(
                model.layout.with_codes(strip, model.layout.codes(shown)).token_ids, shown.token_ids
            )
            found |= (model.layout.codes(shown) != model.layout.codes(strip)).any(0)
        assert found.all()


@pytest.mark.parametrize("gap", [-1, 12, 1.0, True])
def test_gaps_that_cannot_be_are_refused(gap: object) -> None:
    with pytest.raises(ConfigError, match="gap is"):
        tiny_config(gap=gap)
