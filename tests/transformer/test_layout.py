import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinolenta.errors import PromptError, ShapeError
from kinolenta.transformer import SequenceLayout
from kinolenta.transformer.scan import SCANS, frame_scan, given_first
from tests.transformer.tiny import tiny_config

CONFIG = tiny_config(scan="raster")
LAYOUT = SequenceLayout(CONFIG)
SCANNED = [SequenceLayout(tiny_config(scan=scan)) for scan in SCANS]
BOS, EOT, EOV, EOS, PAD, CODE = 0, 1, 2, 3, 4, CONFIG.text_vocab_size
texts = st.lists(st.integers(5, 39), max_size=CONFIG.text_len)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[int]], torch.Tensor, list[list[int] | None]]:
    batch = draw(st.integers(1, 4))
    num_codes = draw(st.integers(0, 30))
    codes = draw(st.lists(st.integers(0, 59), min_size=batch * num_codes, max_size=batch * num_codes))
    left = draw(st.lists(texts, min_size=batch, max_size=batch))
    right = draw(st.lists(st.none() | texts, min_size=batch, max_size=batch))
    return left, torch.tensor(codes, dtype=torch.int64).view(batch, num_codes), right


@settings(max_examples=60, deadline=None)
@given(batches())
def test_unpack_inverts_pack(batch: tuple[list[list[int]], torch.Tensor, list[list[int] | None]]) -> None:
    left, codes, right = batch
    got = LAYOUT.unpack(LAYOUT.pack(left, codes, right))
    assert (got.left, got.right) == (left, right)
    assert torch.equal(got.codes, codes)


@settings(max_examples=60, deadline=None)
@given(batches())
def test_unpack_inverts_pack_prefill(
    batch: tuple[list[list[int]], torch.Tensor, list[list[int] | None]],
) -> None:
    left, codes, _ = batch
    strip = LAYOUT.pack_prefill(left, codes)
    assert strip.token_ids.shape == (len(left), CONFIG.text_len + 2 + codes.shape[1])
    assert (strip.code_start == CONFIG.text_len + 2).all()
    got = LAYOUT.unpack(strip)
    assert (got.left, got.right) == (left, [None] * len(left))
    assert torch.equal(got.codes, codes)


@settings(max_examples=60, deadline=None)
@given(batches(), st.sampled_from(SCANNED))
def test_places_do_not_depend_on_where_a_row_stands(
    batch: tuple[list[list[int]], torch.Tensor, list[list[int] | None]], layout: SequenceLayout
) -> None:
    left, codes, _ = batch
    packed, filled = layout.pack(left, codes), layout.pack_prefill(left, codes)
    for row in range(len(left)):
        live = slice(0, int(packed.length[row])), slice(int(filled.text_start[row]), None)
        for view in (layout.positions, layout.targets):
            for here, there in zip(view(packed), view(filled), strict=True):
                assert torch.equal(here[row, live[0]], there[row, live[1]])


def test_strip_written_out() -> None:
    codes = torch.arange(24)[None]
    strip = LAYOUT.pack([[7, 8], [9]], codes.repeat(2, 1), [[5], None])
    assert strip.token_ids[0].tolist() == [BOS, 7, 8, EOT, *range(CODE, CODE + 24), EOV, 5, EOS]
    assert strip.token_ids[1].tolist() == [BOS, 9, EOT, *range(CODE, CODE + 24), PAD, PAD, PAD, PAD]
    assert strip.code_start.tolist() == [4, 3]
    assert strip.length.tolist() == [31, 27]
    keys, queries = LAYOUT.positions(strip)
    places, aims = keys[0].tolist(), queries[0].tolist()
    assert places[:4] == [[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]]
    assert places[4:28] == [[0, t, h, w] for t in range(2) for h in range(3) for w in range(4)]
    assert places[28:] == [[11, 0, 0, 0], [12, 0, 0, 0], [13, 0, 0, 0]]
    assert aims == places  # in raster order a code stands before the next one in any case


def test_targets_name_the_next_code_and_what_stood_there_a_frame_before() -> None:
    codes = torch.arange(30, 54)[None]
    target, earlier = LAYOUT.targets(LAYOUT.pack([[7, 8]], codes, [[5]]))
    none = CONFIG.codebook_size
    assert target[0].tolist() == [-1, -1, -1, *range(25), -1, -1, -1]
    assert earlier[0].tolist() == [none] * 15 + list(range(30, 43)) + [none] * 3


@pytest.mark.parametrize("layout", SCANNED)
def test_clips_are_brought_into_the_order_of_the_strip(layout: SequenceLayout) -> None:
    codes = torch.arange(48).view(2, 2, 3, 4)
    order = layout.order(range(2))
    standing = layout.unpack(layout.pack([[], []], codes)).codes
    assert torch.equal(standing, codes.flatten(1)[:, order])
    assert torch.equal(layout.unpack(layout.pack([[], []], codes, order=order[-5:])).codes, standing[:, -5:])
    with pytest.raises(ShapeError, match="codes beyond the 2 latent frames that are given"):
        layout.pack([[], []], codes, order=layout.order([0, 2]))
    with pytest.raises(ShapeError, match="24 codes are known but the clip has 12"):
        layout.pack([[], []], codes.flatten(1), order=layout.order([0]))


def test_scans_written_out() -> None:
    assert frame_scan("raster", 2, 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert frame_scan("checkerboard", 3, 4).tolist() == [0, 2, 5, 7, 8, 10, 1, 3, 4, 6, 9, 11]
    assert frame_scan("quarters", 3, 4).tolist() == [0, 2, 8, 10, 5, 7, 1, 3, 9, 11, 4, 6]
    for scan in SCANS:
        for sides in ((1, 1), (1, 5), (5, 1), (8, 8)):
            assert sorted(frame_scan(scan, *sides).tolist()) == list(range(sides[0] * sides[1]))


def test_a_code_asks_from_the_place_before_the_one_that_it_predicts() -> None:
    layout = SequenceLayout(tiny_config(scan="quarters"))
    keys, queries = layout.positions(layout.pack([[7]], torch.arange(24)[None], [[5]], layout.order([0, 1])))
    assert keys[0, 3:9, 1:].tolist() == [[0, 0, 0], [0, 0, 2], [0, 2, 0], [0, 2, 2], [0, 1, 1], [0, 1, 3]]
    assert queries[0, 3:8, 1:].tolist() == [[0, 0, 1], [0, 1, 3], [0, 2, 1], [0, 1, 0], [0, 1, 2]]
    assert queries[0, 14, 1:].tolist() == [0, 2, 3]  # the next frame's first place is the target
    assert torch.equal(queries[0, :3], keys[0, :3]) and torch.equal(queries[0, 26:], keys[0, 26:])


def test_orders_written_out() -> None:
    layout = SequenceLayout(tiny_config(scan="quarters"))
    assert layout.order([3, 1])[:5].tolist() == [36, 38, 44, 46, 41]
    given = torch.zeros(2, 3, 4, dtype=torch.bool)
    given[0, 1], given[1, 0, 1] = True, True
    assert given_first(layout.order([0, 1]), given)[:8].tolist() == [5, 7, 4, 6, 13, 0, 2, 8]


@pytest.mark.parametrize("pack", [LAYOUT.pack, LAYOUT.pack_prefill])
def test_bad_texts_are_refused(pack: object) -> None:
    with pytest.raises(PromptError, match="text is 10 text_ids; this model takes 9"):
        pack([[5] * 10])  # type: ignore[operator]
    for ids in ([40], [-1]):
        with pytest.raises(PromptError, match=r"text_ids must lie in 0\.\.39"):
            pack([ids])  # type: ignore[operator]


@pytest.mark.parametrize("pack", [LAYOUT.pack, LAYOUT.pack_prefill])
def test_bad_codes_are_refused(pack: object) -> None:
    for codes in (torch.tensor([[60]]), torch.tensor([[-1]])):
        with pytest.raises(ShapeError, match=r"codes must lie in 0\.\.59"):
            pack([[5]], codes)  # type: ignore[operator]
    for codes in ([[1, 2]], 7):
        with pytest.raises(ShapeError, match="codes must be a tensor"):
            pack([[5]], codes)  # type: ignore[operator]
    for codes in (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(1, 3), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match="a row for each text"):
            pack([[5]], codes)  # type: ignore[operator]
    with pytest.raises(ShapeError, match=r"frames of \[4, 3\]; this model has \[3, 4\]"):
        pack([[5]], torch.zeros(1, 2, 4, 3, dtype=torch.int64))  # type: ignore[operator]


def test_codes_in_another_order_keep_their_places_and_see_what_came_before() -> None:
    codes = torch.arange(24).view(1, 2, 3, 4)
    order = torch.cat((torch.arange(12, 24), torch.arange(12)))[None]
    strip = LAYOUT.pack([[7]], codes, [[5]], order)
    assert strip.token_ids[0, 3:27].tolist() == [CODE + int(i) for i in order[0]]
    places = LAYOUT.positions(strip)[0][0].tolist()
    assert places[3:27] == [[0, t, h, w] for t in (1, 0) for h in range(3) for w in range(4)]
    assert places[27:] == [[11, 0, 0, 0], [12, 0, 0, 0], [13, 0, 0, 0]]
    target, earlier = LAYOUT.targets(strip)
    assert target[0].tolist() == [-1, -1, *order[0].tolist(), -1, -1, -1, -1]
    assert (earlier == CONFIG.codebook_size).all()  # nothing stands a frame earlier
    mixed = torch.cat((torch.arange(3), torch.arange(12, 15), torch.arange(3, 12), torch.arange(15, 24)))[
        None
    ]
    _, earlier = LAYOUT.targets(LAYOUT.pack([[7]], codes, order=mixed))
    none = CONFIG.codebook_size
    assert earlier[0, 2:].tolist() == [none] * 3 + [0, 1, 2] + [none] * 9 + list(range(3, 12)) + [none]


def test_a_window_of_later_frames_has_their_places() -> None:
    codes = torch.arange(48).view(1, 4, 3, 4)
    order = torch.cat((torch.arange(12), torch.arange(24, 48)))[None]  # frames 0, 2 and 3
    strip = LAYOUT.pack([[7]], codes, order=order)
    assert strip.num_codes == 36
    assert LAYOUT.positions(strip)[0][0, 15:].tolist() == [
        [0, t, h, w] for t in (2, 3) for h in range(3) for w in range(4)
    ]
    _, earlier = LAYOUT.targets(strip)
    assert earlier[0, 26:38].tolist() == list(range(24, 36))  # frame 3 has frame 2 before it, frame 2 nothing
    assert (earlier[0, :26] == CONFIG.codebook_size).all()
