"""The rows of each task: what stands where, at which place, and how often."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinolenta.data.codes import Shard, open_shard
from kinolenta.data.questions import Question
from kinolenta.errors import ConfigError, DataError
from kinolenta.tokenizer import TextTokenizer
from kinolenta.training.rows import TASKS, MixtureConfig, Rows
from kinolenta.transformer import GPTConfig
from tests.training.test_transformer_training import CAPTIONS, small_shard

CONFIG = GPTConfig(
    n_layer=1, n_head=1, n_kv_head=1, d_model=32, d_ff=32, text_dim=8, codebook_size=16, code_levels=(4, 4),
    grid=(2, 2, 2), text_len=16,
)  # fmt: skip
TOKENIZER = TextTokenizer.shipped()
WHOLE = [0, 3, 1, 2, 4, 7, 5, 6]  # the order of a clip of this grid


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return open_shard(small_shard(tmp_path / "codes"))


@pytest.fixture
def longer(tmp_path: Path) -> Shard:
    return open_shard(small_shard(tmp_path / "long", frames=7))


def said(rows: Rows, text_ids: list[int] | None) -> str | None:
    return None if text_ids is None else rows.tokenizer.decode(text_ids)


def test_a_plain_row_has_its_caption_on_the_left_or_dropped_on_the_right(shard: Shard) -> None:
    rows = Rows(shard, TOKENIZER, CONFIG, MixtureConfig(caption_dropout=0.5))
    seen = set()
    for step in range(8):
        strip = rows.batch(step, 4)
        unpacked = rows.layout.unpack(strip)
        assert (strip.order == torch.tensor(WHOLE)).all()
        for left, right, codes in zip(unpacked.left, unpacked.right, unpacked.codes, strict=True):
            assert (left == []) == (right is not None)
            number = shard.codes.flatten(1)[:, WHOLE].tolist().index(codes.tolist())
            text = said(rows, left or right)
            assert text in CAPTIONS[number]
            seen.add("left" if left else "right")
    assert seen == {"left", "right"}


def test_a_question_stands_left_and_its_answer_right(shard: Shard) -> None:
    rows = Rows(shard, TOKENIZER, CONFIG, MixtureConfig(ask=1.0))
    unpacked = rows.layout.unpack(rows.strip(["ask"] * 4, [False] * 4, range(4), random.Random(0)))
    found = [
        (said(rows, left), said(rows, right))
        for left, right in zip(unpacked.left, unpacked.right, strict=True)
    ]
    assert found[:3] == [("кто это?", "кошка"), ("что делает собака?", "прыгает"), ("что это?", "мяч")]
    assert found[3] == (CAPTIONS[3][0], None)  # nothing can be asked about the film
    assert torch.equal(unpacked.codes, shard.codes.flatten(1)[:, WHOLE])


def test_a_kind_of_question_is_not_asked_more_often_for_its_wordings(shard: Shard) -> None:
    about = [Question("what", f"что это, {n}?", "мяч") for n in range(9)] + [
        Question("motion", "как?", "летит")
    ]
    rows = Rows(replace(shard, questions=[about] * 4), TOKENIZER, CONFIG, MixtureConfig(ask=1.0))
    strip = rows.strip(["ask"] * 200, [False] * 200, [0] * 200, random.Random(0))
    asked = Counter(said(rows, left) for left in rows.layout.unpack(strip).left)
    assert 70 < asked["как?"] < 130 and len(asked) == 10


def test_a_glance_is_one_later_frame_and_what_can_be_told_from_it(shard: Shard) -> None:
    rows = Rows(shard, TOKENIZER, CONFIG, MixtureConfig(glances=3))
    strip, again, other = (rows.glances(random.Random(seed), 40, whole=False) for seed in (5, 5, 6))
    assert torch.equal(strip.token_ids, again.token_ids) and torch.equal(strip.order, again.order)
    assert not torch.equal(other.token_ids, strip.token_ids)
    assert strip.num_codes == 4
    assert (strip.order == torch.tensor(WHOLE[4:])).all()  # the second of two latent frames
    unpacked = rows.layout.unpack(strip)
    known = {("кто это?", "кошка"): 0, ("что это?", "мяч"): 2}  # what a dog does takes a clip to tell
    seen = set()
    for left, right, codes in zip(unpacked.left, unpacked.right, unpacked.codes, strict=True):
        number = known[said(rows, left), said(rows, right)]  # type: ignore[index]
        assert torch.equal(codes, shard.codes[number].flatten()[WHOLE[4:]])
        seen.add(number)
    assert seen == {0, 2}


def test_every_other_batch_of_glances_shows_whole_clips_and_asks_anything(shard: Shard) -> None:
    rows = Rows(shard, TOKENIZER, CONFIG, MixtureConfig(glances=3))
    asked: set[str | None] = set()
    shapes: Counter[tuple[int, int]] = Counter()
    for seed in range(60):
        strip = rows.glances(random.Random(seed), 40)
        shapes[len(strip.order), strip.num_codes] += 1
        unpacked = rows.layout.unpack(strip)
        if strip.num_codes == 8:
            assert (strip.order == torch.tensor(WHOLE)).all()
            asked |= {said(rows, left) for left in unpacked.left}
            whole = shard.codes.flatten(1)[:, WHOLE]
            assert all((codes.flatten() == whole).all(1).any() for codes in unpacked.codes)
        else:
            assert all(said(rows, left) != "что делает собака?" for left in unpacked.left)
    assert set(shapes) == {(40, 4), (20, 8)} and min(shapes.values()) > 15
    assert asked == {"кто это?", "что делает собака?", "что это?"}


def test_wandering_things_are_for_glances_alone_and_are_most_of_them(shard: Shard) -> None:
    about = [Question("what", "что это?", "шар"), Question("colour", "какого цвета?", "красный")]
    shard = replace(shard, questions=[shard.questions[0]] * 4)
    wandering = replace(shard, codes=shard.codes + 1, captions=[["шар"]] * 4, questions=[about] * 4)
    rows = Rows(shard, TOKENIZER, CONFIG, MixtureConfig(glances=3), wandering=wandering)
    unpacked = rows.layout.unpack(rows.glances(random.Random(0), 400, whole=False))
    answers = Counter(said(rows, right) for right in unpacked.right)
    assert 200 < answers["шар"] + answers["красный"] < 280 and answers["шар"] > 2 * answers["красный"] > 0
    for right, codes in zip(unpacked.right, unpacked.codes, strict=True):
        from_wandering = (codes == wandering.codes.flatten(1)[:, WHOLE[4:]]).all(1).any()
        assert from_wandering == (said(rows, right) in ("шар", "красный"))
    plain = rows.layout.unpack(rows.batch(0, 4))
    assert all((codes == shard.codes.flatten(1)[:, WHOLE]).all(1).any() for codes in plain.codes)


def test_wandering_clips_have_as_many_frames_as_the_model_takes(shard: Shard, longer: Shard) -> None:
    with pytest.raises(DataError, match="wandering_codes 7"):
        Rows(shard, TOKENIZER, CONFIG, MixtureConfig(glances=3), wandering=longer)


def test_given_codes_stand_first_and_keep_their_places(shard: Shard) -> None:
    rows = Rows(shard, TOKENIZER, CONFIG, MixtureConfig(given=1.0))
    orders = set()
    for seed in range(40):
        strip = rows.strip(["given"], [False], [1], random.Random(seed))
        assert sorted(strip.order[0].tolist()) == list(range(8))
        assert torch.equal(rows.layout.unpack(strip).codes[0], shard.codes[1].flatten()[strip.order[0]])
        orders.add(tuple(strip.order[0].tolist()))
    last_frame, top_row = (4, 7, 5, 6, 0, 3, 1, 2), (0, 1, 3, 2, 4, 7, 5, 6)
    assert {last_frame, top_row, tuple(WHOLE)} < orders and len(orders) == 4  # and the left column


def test_later_rows_are_windows_at_their_true_time_or_long_after(shard: Shard, longer: Shard) -> None:
    rows = Rows(shard, TOKENIZER, CONFIG, MixtureConfig(later=1.0), longer=longer)
    delays = set()
    for seed in range(200):
        strip = rows.strip(["later"], [False], [2], random.Random(seed))
        codes = rows.layout.unpack(strip).codes[0]
        scan = WHOLE[:4]
        assert strip.order[0, :4].tolist() == scan
        assert torch.equal(codes[:4], longer.codes[2, 0].flatten()[scan])
        [source] = [t for t in range(1, 7) if torch.equal(codes[4:], longer.codes[2, t].flatten()[scan])]
        time = int(strip.order[0, 4]) // 4
        assert strip.order[0, 4:].tolist() == [4 * time + i for i in scan]
        assert time == source if source < 2 else source <= time < 1024
        delays.add(time - source)
    assert {0, 1} <= delays and max(delays) > 500


def test_tasks_come_in_their_shares_and_every_clip_once_an_epoch(shard: Shard, longer: Shard) -> None:
    mixture = MixtureConfig(ask=0.25, given=0.25, later=0.25)
    rows = Rows(shard, TOKENIZER, CONFIG, mixture, longer=longer)
    tasks: Counter[str] = Counter()
    numbers: list[int] = []
    strip = rows.strip

    def watched(some: list[str], dropped: list[bool], clips: list[int], rng: random.Random) -> object:
        tasks.update(some)
        numbers.extend(clips)
        return strip(some, dropped, clips, rng)

    rows.strip = watched  # type: ignore[method-assign, assignment]
    for step in range(100):
        rows.batch(step, 4)
    assert set(tasks) == set(TASKS) and all(70 < count < 130 for count in tasks.values())
    assert all(sorted(numbers[i : i + 4]) == [0, 1, 2, 3] for i in range(0, 400, 4))


def test_what_cannot_be_mixed_is_refused(shard: Shard, longer: Shard) -> None:
    dog = shard.questions[1]  # what it does: no frame tells
    with pytest.raises(ConfigError, match="nor more than 1 together"):
        MixtureConfig(ask=0.6, given=0.6)
    with pytest.raises(ConfigError, match="glances must not be negative"):
        MixtureConfig(glances=-1)
    with pytest.raises(DataError, match="the model takes 2 latent frames; codes have 7"):
        Rows(longer, TOKENIZER, CONFIG, MixtureConfig())
    with pytest.raises(DataError, match=r"glances need questions about what, .*; the codes have none"):
        silent = replace(shard, questions=[about if about[:1] == dog else [] for about in shard.questions])
        Rows(silent, TOKENIZER, CONFIG, MixtureConfig(glances=4))
    with pytest.raises(DataError, match="long_codes 2"):
        Rows(shard, TOKENIZER, CONFIG, MixtureConfig(later=0.5), longer=shard)
