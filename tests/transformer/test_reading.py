"""Texts about codes: the cached way says what one forward pass over the whole strip says."""

import pytest
import torch
from torch import Tensor

from kinolenta.errors import ConfigError, PromptError, ShapeError
from kinolenta.transformer import Reading, code_log_probs, generate, text_log_probs
from tests.transformer.tiny import random_codes, tiny_gpt

MODEL = tiny_gpt()
CODES = random_codes(MODEL, 3).view(3, 2, 3, 4)
QUESTIONS = [[9, 8], [], [7] * 9]
TEXTS = [[5, 6, 7], [8], [], [30, 31, 32, 33], [12]]


def by_hand(question: list[int], codes: Tensor, text: list[int]) -> Tensor:
    """log p(text, end) from the whole strip, slot by slot."""
    with torch.no_grad():
        strip = MODEL.layout.pack([question], codes[None], [text], MODEL.layout.order(range(2)))
        nats = MODEL.text_logits(MODEL(strip)).log_softmax(-1)[0]
    first = int(strip.code_start[0]) + strip.num_slots  # slot of <eov>
    ids = [*text, MODEL.config.eos_id]
    return sum((nats[first + i, token].double() for i, token in enumerate(ids)), torch.zeros(()).double())


def test_scores_are_those_of_the_whole_strip() -> None:
    reading = Reading(MODEL, CODES, QUESTIONS)
    clips = [0, 1, 2, 2, 0]
    got = reading.log_probs(TEXTS * 8, clips * 8)  # more rows than are scored at once
    expected = torch.stack([by_hand(QUESTIONS[c], CODES[c], t) for t, c in zip(TEXTS, clips, strict=True)])
    torch.testing.assert_close(got, expected.repeat(8), atol=1e-4, rtol=1e-5)


def test_codes_may_come_as_they_stand() -> None:
    standing = CODES.flatten(1)[:, MODEL.layout.order(range(2))]
    for found in (Reading(MODEL, standing), Reading(MODEL, standing, order=MODEL.layout.order(range(2)))):
        assert torch.equal(
            found.log_probs(TEXTS[:3], range(3)), Reading(MODEL, CODES).log_probs(TEXTS[:3], range(3))
        )
    with pytest.raises(ShapeError):
        Reading(MODEL, CODES[0, 0, 0])


def test_texts_about_long_clips_are_the_mean_over_windows_of_their_frames() -> None:
    clips = random_codes(MODEL, 8).view(2, 8, 3, 4)[:, :5]
    texts = [[5, 6, 7], [8]]
    short = text_log_probs(MODEL, texts, clips[:, :2])
    torch.testing.assert_close(short, Reading(MODEL, clips[:, :2]).log_probs(texts, [0, 1]))

    def window(end: int) -> Tensor:  # the first latent frame and this one, at their true times
        order = MODEL.layout.order([0, end])
        nats = []
        with torch.no_grad():
            strip = MODEL.layout.pack([[], []], clips, texts, order=order)
            logits = MODEL.text_logits(MODEL(strip)).log_softmax(-1)
        for row, text in enumerate(texts):
            first = int(strip.code_start[row]) + strip.num_slots
            ids = [*text, MODEL.config.eos_id]
            nats.append(sum(logits[row, first + i, token].double() for i, token in enumerate(ids)))
        return torch.stack(nats)  # type: ignore[arg-type]

    expected = torch.stack([window(end) for end in (1, 2, 3, 4)])
    torch.testing.assert_close(text_log_probs(MODEL, texts, clips), expected.mean(0), atol=1e-4, rtol=1e-5)
    later = text_log_probs(MODEL, texts, clips, first=3)
    torch.testing.assert_close(later, expected[2:].mean(0), atol=1e-4, rtol=1e-5)


def test_codes_in_another_order_have_the_log_probs_of_their_strip() -> None:
    order = torch.cat((torch.arange(12, 24), torch.arange(12)))
    found = code_log_probs(MODEL, [[9], [], [8]], CODES, order).flatten(1)
    with torch.no_grad():
        strip = MODEL.layout.pack([[9], [], [8]], CODES, order=order)
        logits = MODEL.code_logits(MODEL(strip)).log_softmax(-1)
    for row in range(3):
        for number, place in enumerate(order.tolist()):
            slot = int(strip.code_start[row]) + number - 1
            expected = logits[row, slot, CODES[row].flatten()[place]]
            assert found[row, place] == pytest.approx(float(expected), abs=1e-4)


def test_one_text_at_a_time_takes_the_likeliest_each_time_and_stops_at_the_end() -> None:
    reading = Reading(MODEL, CODES, QUESTIONS)
    texts = reading.write(6, width=1)
    banned = {MODEL.config.bos_id, MODEL.config.eot_id, MODEL.config.eov_id, MODEL.config.pad_id}
    for clip, text in enumerate(texts):
        assert len(text) <= 6 and not banned & set(text)
        with torch.no_grad():
            strip = MODEL.layout.pack(
                [QUESTIONS[clip]], CODES[clip : clip + 1], [text], MODEL.layout.order(range(2))
            )
            logits = MODEL.text_logits(MODEL(strip))[0]
        logits[:, sorted(banned)] = -torch.inf
        first = int(strip.code_start[0]) + strip.num_slots
        said = logits[first : first + len(text) + 1].argmax(-1).tolist()
        assert said[: len(text)] == text
        assert len(text) == 6 or said[-1] == MODEL.config.eos_id
    assert [
        Reading(MODEL, CODES[i : i + 1], QUESTIONS[i : i + 1]).write(6, width=1)[0] for i in range(3)
    ] == texts


def test_codes_score_as_they_did_when_they_were_drawn() -> None:
    made = generate(MODEL, TEXTS, seeds=[1] * 5, guidance_scale=2.0)
    assert made.log_prob_uncond is not None
    with_text = code_log_probs(MODEL, TEXTS * 4, made.codes.repeat(4, 1, 1, 1))
    assert with_text.shape == (20, 2, 3, 4)
    torch.testing.assert_close(with_text.sum((1, 2, 3)), made.log_prob.repeat(4), atol=1e-3, rtol=1e-5)
    without = code_log_probs(MODEL, [[]] * 5, made.codes)
    torch.testing.assert_close(without.sum((1, 2, 3)), made.log_prob_uncond, atol=1e-3, rtol=1e-5)


def test_what_cannot_be_read_is_refused() -> None:
    reading = Reading(MODEL, CODES)
    with pytest.raises(PromptError, match="name one of 3 clips"):
        reading.log_probs([[5]], [3])
    with pytest.raises(PromptError, match="name one of 3 clips"):
        reading.log_probs([[5]], [0, 1])
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        reading.write(0)
    assert reading.log_probs([], []).shape == (0,)


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_a_wide_search_finds_the_text_of_the_highest_mean(clip: int) -> None:
    """Against every text of up to two tokens, scored one by one."""
    config = MODEL.config
    banned = {config.bos_id, config.eot_id, config.eov_id, config.pad_id, config.eos_id}
    words = [token for token in range(config.text_vocab_size) if token not in banned]
    texts = [[], *([one] for one in words), *([one, other] for one in words for other in words)]
    reading = Reading(MODEL, CODES[clip : clip + 1], QUESTIONS[clip : clip + 1])
    means = reading.log_probs(texts, [0] * len(texts)) / torch.tensor([len(text) + 1 for text in texts])
    [found] = reading.write(3, width=1300)  # wide enough to drop nothing
    assert float(means[texts.index(found)]) == pytest.approx(float(means.max()), abs=1e-4)


def test_each_clip_of_a_batch_gets_the_text_that_it_gets_alone() -> None:
    together = Reading(MODEL, CODES, QUESTIONS).write(5, width=3)
    alone = [Reading(MODEL, CODES[i : i + 1], QUESTIONS[i : i + 1]).write(5, width=3)[0] for i in range(3)]
    assert together == alone
    with pytest.raises(ConfigError, match="width is 0"):
        Reading(MODEL, CODES, QUESTIONS).write(5, width=0)
