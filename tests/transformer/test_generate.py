import math

import pytest
import torch
from torch import Tensor

from kinolenta.errors import ConfigError, GenerationError, PromptError, ShapeError
from kinolenta.transformer import SamplingConfig, generate
from kinolenta.transformer.noise import gumbel
from tests.transformer.tiny import random_codes, tiny_gpt

TEXTS = [[5, 6, 7], [], [8] * 9, [30, 31], [12]]
SEEDS = [4, 0, 2**62, 7, 4]


def test_clip_is_the_naive_loop_over_full_forwards() -> None:
    model = tiny_gpt()
    order = model.layout.order(range(2))
    got = generate(model, [TEXTS[0]], seeds=[9], candidates=[3], decoding="sequential")
    codes = torch.zeros(1, 0, dtype=torch.int64)
    log_prob = 0.0
    with torch.no_grad():
        for index in range(24):
            logits = model.code_logits(model(model.layout.pack([TEXTS[0]], codes))[:, -1])
            drawn = (logits + gumbel(9, 3, order[index, None], 60)).argmax(-1)
            log_prob += float(logits.log_softmax(-1)[0, drawn])
            codes = torch.cat((codes, drawn[:, None]), 1)
    assert torch.equal(got.codes.flatten(1)[:, order], codes)
    assert got.codes.shape == (1, 2, 3, 4)
    assert got.log_prob.item() == pytest.approx(log_prob, abs=1e-3)
    assert got.log_prob_uncond is None
    assert got.passes == 24


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
@pytest.mark.parametrize("known", [0, 5, 12])
def test_clip_alone_equals_the_same_clip_in_a_batch(guidance_scale: float, known: int) -> None:
    model = tiny_gpt()
    codes = random_codes(model, 5, known)
    sampling = SamplingConfig(temperature=0.9, top_k=50, top_p=0.95)

    def clips(rows: slice) -> Tensor:
        return generate(
            model,
            TEXTS[rows],
            seeds=SEEDS[rows],
            candidates=[0, 1, 2, 3, 4][rows],
            known_codes=codes[rows],
            num_latent_frames=3,
            sampling=sampling,
            guidance_scale=guidance_scale,
        ).codes

    together = clips(slice(0, 5))
    for row in range(5):
        assert torch.equal(clips(slice(row, row + 1)), together[row : row + 1])


def test_guidance_one_is_no_guidance_and_guidance_zero_forgets_the_text() -> None:
    model = tiny_gpt()
    plain = generate(model, TEXTS[:2], seeds=[1, 1])
    nearly = generate(model, TEXTS[:2], seeds=[1, 1], guidance_scale=1 + 1e-7)
    assert torch.equal(plain.codes, nearly.codes)
    assert nearly.log_prob_uncond is not None
    without = generate(model, TEXTS[:2], seeds=[1, 1], guidance_scale=0)
    assert torch.equal(without.codes[0], without.codes[1])
    assert not torch.equal(plain.codes[0], plain.codes[1])
    torch.testing.assert_close(plain.log_prob, nearly.log_prob, atol=1e-4, rtol=1e-6)
    assert nearly.log_prob_uncond[1].item() == pytest.approx(nearly.log_prob[1].item(), abs=1e-3)  # no text


def test_guided_logits_are_the_stated_combination() -> None:
    model = tiny_gpt()
    first = generate(model, [TEXTS[0]], seeds=[3], guidance_scale=3.0, num_latent_frames=1).codes[0, 0, 0, 0]
    with torch.no_grad():
        cond, uncond = (model.code_logits(model(model.layout.pack([text]))[:, -1]) for text in (TEXTS[0], []))
    assert first == (uncond + 3 * (cond - uncond) + gumbel(3, 0, torch.tensor([0]), 60)).argmax()


def test_known_codes_are_kept_and_the_rest_is_what_would_have_followed() -> None:
    model = tiny_gpt()
    whole = generate(model, TEXTS[:3], seeds=SEEDS[:3])
    order = model.layout.order(range(2))
    beginning = whole.codes.flatten(1)[:, order[:15]]
    again = generate(model, TEXTS[:3], seeds=SEEDS[:3], known_codes=beginning, decoding="sequential")
    assert torch.equal(whole.codes, again.codes)
    assert again.passes == 1 + 1 + 9  # the texts, the known codes but one, and a pass for each that is drawn
    other = random_codes(model, 3, 15, seed=5)
    forced = generate(model, TEXTS[:3], seeds=SEEDS[:3], known_codes=other)
    assert torch.equal(forced.codes.flatten(1)[:, order[:15]], other)
    everything = random_codes(model, 3).view(3, 2, 3, 4)
    given = generate(model, TEXTS[:3], seeds=SEEDS[:3], known_codes=everything)
    assert torch.equal(given.codes, everything)
    assert given.log_prob.tolist() == [0.0] * 3


@pytest.mark.parametrize("known", [0, 15])
def test_frames_are_announced_as_they_are_completed(known: int) -> None:
    model = tiny_gpt()
    seen: list[tuple[int, Tensor]] = []
    got = generate(
        model,
        TEXTS[:2],
        seeds=[1, 2],
        num_latent_frames=4,
        known_codes=random_codes(model, 2, known),
        on_frame=lambda t, codes: seen.append((t, codes.clone())),
    )
    assert [t for t, _ in seen] == [0, 1, 2, 3]
    for t, codes in seen:
        assert torch.equal(codes, got.codes[:, : t + 1])


def test_seed_and_candidate_choose_the_clip() -> None:
    model = tiny_gpt()
    codes = generate(model, [[5]] * 4, seeds=[1, 2, 1, 1], candidates=[0, 0, 1, 0]).codes
    assert torch.equal(codes[0], codes[3])
    assert not torch.equal(codes[0], codes[1]) and not torch.equal(codes[0], codes[2])


def test_only_codes_can_be_drawn() -> None:
    model = tiny_gpt()
    with torch.no_grad():
        model.text_out.weight.fill_(1e6)  # were text in the race, it would win every draw
    codes = generate(model, [[5]] * 3, seeds=[0, 1, 2]).codes
    assert codes.min() >= 0 and codes.max() < 60


def test_greedy_needs_no_noise() -> None:
    model = tiny_gpt()
    first, second = (
        generate(model, [[5]], seeds=[seed], sampling=SamplingConfig(temperature=0)).codes for seed in (1, 2)
    )
    assert torch.equal(first, second)


def test_broken_weights_raise() -> None:
    model = tiny_gpt()
    with torch.no_grad():
        model.blocks[1].feed_forward.down.weight[0, 0] = math.nan  # type: ignore[union-attr, index]
    with pytest.raises(GenerationError, match=r"logits of code 0 are not finite in 100.0%"):
        generate(model, [[5]], seeds=[0])


def test_bad_requests_are_refused_by_a_sentence() -> None:
    model = tiny_gpt()
    with pytest.raises(ConfigError, match="text_ids is an empty list"):
        generate(model, [], seeds=[])
    with pytest.raises(ConfigError, match="2 texts but 1 seeds"):
        generate(model, [[5], [6]], seeds=[0])
    with pytest.raises(ConfigError, match="1 texts but 2 candidates"):
        generate(model, [[5]], seeds=[0], candidates=[0, 1])
    with pytest.raises(ConfigError, match="candidates must be a list of numbers; got 3"):
        generate(model, [[5]], seeds=[0], candidates=3)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="codes must be a tensor; got 'list'"):
        generate(model, [[5]], seeds=[0], known_codes=[[1, 2]])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed is -1"):
        generate(model, [[5]], seeds=[-1])
    with pytest.raises(ConfigError, match="guidance_scale is nan"):
        generate(model, [[5]], seeds=[0], guidance_scale=math.nan)
    with pytest.raises(ConfigError, match=r"num_latent_frames is 0; it must lie in 1\.\.1024"):
        generate(model, [[5]], seeds=[0], num_latent_frames=0)
    with pytest.raises(ShapeError, match="13 codes are known but the clip has 12"):
        generate(model, [[5]], seeds=[0], num_latent_frames=1, known_codes=random_codes(model, 1, 13))
    with pytest.raises(ShapeError, match="a row for each text"):
        generate(model, [[5]], seeds=[0], known_codes=random_codes(model, 2, 3))
    with pytest.raises(PromptError, match="this model takes 9"):
        generate(model, [[5] * 10], seeds=[0])
