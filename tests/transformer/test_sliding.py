"""Clips longer than trained: what the window holds, exactness, and what stays of what was given."""

from typing import Any

import pytest
import torch
from torch import Tensor

from kinolenta.errors import ConfigError, ShapeError
from kinolenta.kernels.attention import Causal
from kinolenta.transformer import Generated, SlidingGeneration, code_log_probs, generate
from kinolenta.transformer.scan import given_first
from kinolenta.transformer.sliding import window_times
from kinolenta.transformer.stack import Stack
from tests.transformer.tiny import random_codes, tiny_gpt

MODEL = tiny_gpt(grid=(3, 2, 2))
TEXTS = [[5, 6, 7], [8], []]
SEEDS = [3, 4, 3]


def slid(
    texts: list[list[int]] = TEXTS, seeds: list[int] = SEEDS, n: int = 7, **options: object
) -> Generated:
    generation = SlidingGeneration(MODEL, texts, seeds=seeds, num_latent_frames=n, **options)
    shown = list(generation.frames())
    made = generation.result()
    assert [t for t, _ in shown] == list(range(n))
    assert all(torch.equal(codes, made.codes[:, : t + 1]) for t, codes in shown)
    return made


def test_the_window_holds_the_first_frame_and_the_latest() -> None:
    assert window_times(3, 3) == [0, 2, 3]
    assert window_times(9, 5) == [0, 6, 7, 8, 9]


def test_each_later_frame_is_drawn_from_its_window_at_its_true_time() -> None:
    made = slid()
    begun = generate(MODEL, TEXTS, seeds=SEEDS)
    assert torch.equal(made.codes[:, :3], begun.codes)
    for t in range(3, 7):
        order = MODEL.layout.order(window_times(t, 3))
        known = made.codes.flatten(1)[:, order[:-4]]
        again = generate(MODEL, TEXTS, seeds=SEEDS, known_codes=known, order=order)
        assert torch.equal(again.codes[:, -1], made.codes[:, t])


@pytest.mark.parametrize(
    "options",
    [{}, {"guidance_scale": 2.0}, *({"guidance_scale": 2.0, "guided_latent_frames": n} for n in (0, 1, 4))],
)
def test_a_long_clip_is_the_same_alone_sequential_and_longer(options: dict[str, object]) -> None:
    made = slid(**options)
    for row in range(3):
        alone = slid(TEXTS[row : row + 1], SEEDS[row : row + 1], decoding="sequential", **options)
        assert torch.equal(alone.codes[0], made.codes[row])
    assert torch.equal(slid(n=8, **options).codes[:, :7], made.codes)


def test_log_probs_are_those_of_the_windows() -> None:
    made = slid(guidance_scale=1.5)
    for texts, sums in ((TEXTS, made.log_prob), ([[]] * 3, made.log_prob_uncond)):
        nats = code_log_probs(MODEL, texts, made.codes)
        assert nats.shape == made.codes.shape and sums is not None
        torch.testing.assert_close(nats.sum((1, 2, 3)), sums, atol=2e-3, rtol=1e-5)


def test_guidance_leads_the_first_frames_that_are_drawn_and_no_others() -> None:
    whole, some, none = (slid(guidance_scale=2.0, guided_latent_frames=n) for n in (None, 4, 0))
    assert torch.equal(whole.codes[:, :4], some.codes[:, :4])
    assert whole.log_prob_uncond is not None and some.log_prob_uncond is None
    assert torch.equal(none.codes, slid().codes)
    given = some.codes[:, :4]
    led, plain = slid(known_codes=given, guidance_scale=2.0, guided_latent_frames=2), slid(known_codes=given)
    more = slid(known_codes=led.codes[:, :6])
    assert torch.equal(more.codes, led.codes) and not torch.equal(led.codes[:, :6], plain.codes[:, :6])


@pytest.mark.parametrize("given", [2, 12, 14, 20, 28])
def test_given_codes_stay_and_the_rest_follows_them(given: int) -> None:
    known = random_codes(MODEL, 3, 28)[:, :given]
    made = slid(known_codes=known)
    order = MODEL.layout.order(range(7))
    standing, free = (clips.codes.flatten(1)[:, order] for clips in (made, slid()))
    assert torch.equal(standing[:, :given], known)
    assert given == 28 or not torch.equal(standing[:, given:], free[:, given:])


def test_a_beginning_may_have_an_order_of_its_own() -> None:
    given = torch.zeros(3, 2, 2, dtype=torch.bool)
    given[0, 1] = True  # the lower row of the first frame
    order = given_first(MODEL.layout.order(range(3)), given)
    known = random_codes(MODEL, 3, 2)
    made, sequential = (
        slid(known_codes=known, order=order, decoding=decoding) for decoding in ("parallel", "sequential")
    )
    assert torch.equal(made.codes, sequential.codes)
    assert torch.equal(made.codes[:, 0].flatten(1)[:, order[:2]], known)
    begun = generate(MODEL, TEXTS, seeds=SEEDS, known_codes=known, order=order)
    assert torch.equal(made.codes[:, :3], begun.codes)
    nats = code_log_probs(MODEL, TEXTS, made.codes, order)
    clips = torch.zeros(3, 1, 2, 2, dtype=torch.int64)
    clips[:, 0] = made.codes[:, 0]
    whole = generate(MODEL, TEXTS, seeds=SEEDS, known_codes=clips, order=order)
    assert torch.equal(whole.codes[:, :1], clips)
    assert torch.equal(slid(known_codes=clips, order=order).codes[:, :3], whole.codes)
    for wrong in (order[:-4], order + 4, order[[0, *range(11)]]):
        with pytest.raises(ShapeError, match="every code of the first 3 latent frames once"):
            slid(order=wrong)
        with pytest.raises(ShapeError, match="every code of the first 3 latent frames once"):
            code_log_probs(MODEL, TEXTS, made.codes, wrong)
    drawn = nats.sum((1, 2, 3)) - nats[:, 0, 1].sum(1)
    torch.testing.assert_close(drawn, made.log_prob, atol=2e-3, rtol=1e-5)


def test_what_a_later_frame_costs_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    slots: list[int] = []
    run = Stack.run

    def watched(stack: Stack, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, layers: Any) -> Tensor:
        slots.append(layers[0][0].shape[2])
        return run(stack, x, cos, sin, mask, layers)

    monkeypatch.setattr(Stack, "run", watched)
    slid(n=9)
    assert len(slots) > 9 and len(set(slots)) == 1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a window slides over 4\.\.1024"):
        SlidingGeneration(MODEL, TEXTS, seeds=SEEDS, num_latent_frames=3)
    for codes in (random_codes(MODEL, 3, 20), random_codes(MODEL, 3, 20).view(3, 5, 2, 2)):
        with pytest.raises(ShapeError, match="20 codes are known but the clip has 16"):
            SlidingGeneration(MODEL, TEXTS, seeds=SEEDS, num_latent_frames=4, known_codes=codes)
        with pytest.raises(ShapeError, match="20 codes are known but the clip has 12"):
            generate(MODEL, TEXTS, seeds=SEEDS, known_codes=codes)
