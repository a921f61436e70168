"""Parallel decoding draws what sequential decoding draws, to the last bit, whatever the settings."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinolenta.errors import ConfigError, GenerationError, ShapeError
from kinolenta.kernels.products import multiplies
from kinolenta.transformer import Generated, GPTConfig, SamplingConfig, generate
from kinolenta.transformer.cache import decode_window
from kinolenta.transformer.decoding import FixedPoint
from kinolenta.transformer.generate import PREVIEW_CODES, Generation
from kinolenta.transformer.memory import allowed_bytes, available_bytes, needed_bytes
from kinolenta.transformer.noise import BLOCK, NoiseWindow, gumbel
from kinolenta.transformer.precision import with_precision
from kinolenta.transformer.window import Window
from tests.transformer.tiny import random_codes, tiny_gpt

MODEL = tiny_gpt()
MODELS = {"float32": MODEL, "with a gap": tiny_gpt(gap=5)}
if multiplies(torch.bfloat16):
    MODELS["bfloat16"], _ = with_precision(MODEL, "bfloat16")
TEXTS = [[5, 6, 7], [], [8] * 9, [30, 31], [12]]


def equal(one: Generated, other: Generated) -> None:
    assert torch.equal(one.codes, other.codes)
    assert torch.equal(one.log_prob, other.log_prob)
    assert (one.log_prob_uncond is None) == (other.log_prob_uncond is None)
    if one.log_prob_uncond is not None and other.log_prob_uncond is not None:
        assert torch.equal(one.log_prob_uncond, other.log_prob_uncond)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 5),
    window=st.none() | st.integers(1, 40),
    known=st.sampled_from([0, 1, 2, 7, 12, 35, 36]),
    frames=st.integers(1, 3),
    shuffle=st.none() | st.integers(0, 99),
    guidance_scale=st.sampled_from([1.0, 0.0, 2.5]),
    guided=st.sampled_from([None, 0, 1, 2]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([None, 1, 7]),
    top_p=st.sampled_from([None, 0.5, 0.95]),
    first=st.sampled_from([None, SamplingConfig(temperature=0.5, top_k=9), SamplingConfig(top_p=0.3)]),
    negative=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
    kind=st.sampled_from(list(MODELS)),
)
def test_parallel_equals_sequential(
    batch: int,
    window: int | None,
    known: int,
    frames: int,
    shuffle: int | None,
    guidance_scale: float,
    guided: int | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    first: SamplingConfig | None,
    negative: bool,
    seed: int,
    kind: str,
) -> None:
    known = min(known, frames * 12)
    codes = random_codes(MODEL, batch, known, seed=seed % 1000)
    sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    order = MODEL.layout.order(range(frames))
    if shuffle is not None:
        order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(shuffle))]

    def clips(decoding: str, rows: slice) -> Generated:
        return generate(
            MODELS[kind],
            TEXTS[:batch][rows],
            seeds=[seed] * len(TEXTS[:batch][rows]),
            candidates=list(range(batch))[rows],
            known_codes=codes[rows],
            order=order,
            sampling=sampling,
            first_sampling=first,
            guidance_scale=guidance_scale,
            guided_latent_frames=guided,
            negative_text_ids=TEXTS[::-1][:batch][rows] if negative and guidance_scale != 1 else None,
            decoding=decoding,
            window=window if decoding == "parallel" else None,
        )

    together = clips("sequential", slice(None))
    equal(together, clips("parallel", slice(None)))
    assert torch.equal(together.codes.flatten(1)[:, order[:known]], codes)
    alone = clips("parallel", slice(batch - 1, batch))
    assert torch.equal(alone.codes, together.codes[-1:])
    assert window is None or alone.passes <= together.passes


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("width", [24, 40])
def test_the_only_head_of_the_only_row_has_the_bits_of_others(threads: int, width: int) -> None:
    model = tiny_gpt(n_head=1, n_kv_head=1, d_model=width)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for seed in range(3):
            guided = {"guidance_scale": 2.0, "guided_latent_frames": 1}  # then the second row ends
            clips = partial(generate, model, seeds=[seed] * 3, **guided)
            together = clips(TEXTS[:3], decoding="sequential")
            equal(together, clips(TEXTS[:3]))
            for decoding in ("sequential", "parallel"):
                alone = generate(model, TEXTS[2:3], seeds=[seed], decoding=decoding, **guided)
                assert torch.equal(alone.log_prob, together.log_prob[2:])
    finally:
        torch.set_num_threads(before)


def test_the_longest_window_shrinks_as_clips_share_a_pass() -> None:
    assert [Window(640).most(rows) for rows in (1, 2, 4, 5, 8, 20, 64)] == [64, 64, 64, 48, 32, 8, 8]
    assert Window(6).most(1) == 5 and Window(1).most(1) == 1
    assert Window(640, 20).most(64) == 20 and Window(6, 20).most(1) == 5


def test_a_window_ends_behind_the_draft_that_spoils_the_rest() -> None:
    window, clip = Window(640), [True, False] * 20
    assert window.length(1, 600) == 16  # nothing is known yet
    window.look([clip], 1)
    assert window.length(1, 600) == 40  # 23 places before the twelfth wrong one, and 16, in steps of 8
    assert window.length(1, 9) == 16 and window.length(1, 8) == 8  # no further than the clip
    window.look([clip, [True] * 4], 2)
    assert window.length(2, 600) == 24  # 15 and 4 places, 10 on average, and 12
    window.look([], 2)  # all clips are done
    window.look([clip] * 16, 16)
    assert window.length(16, 600) == 8
    window.look([[]], 1)
    assert window.length(1, 600) == 16
    window.look([[True] * 24], 1)  # all held
    assert window.length(1, 600) == 40
    fixed = Window(640, 20)
    fixed.look([clip], 1)
    assert fixed.length(1, 600) == 20 and fixed.length(1, 3) == 8 and Window(640, 1).length(1, 3) == 1


def test_rows_are_dropped_when_guidance_ends_and_the_window_may_grow() -> None:
    texts, seeds = [[5], [6, 7]] * 4, [*range(8)]
    options = {"num_latent_frames": 4, "guidance_scale": 2.0, "guided_latent_frames": 1}
    slow = generate(MODEL, texts, seeds=seeds, decoding="sequential", **options)  # type: ignore[arg-type]
    equal(slow, generate(MODEL, texts, seeds=seeds, **options))  # type: ignore[arg-type]
    generation = Generation(MODEL, texts, seeds=seeds, **options)  # type: ignore[arg-type]
    decoder, met = generation._decoder, []
    for complete, _ in generation.frames():
        rows = len(decoder.cache.pad)
        met.append(
            (complete, decoder.cache.copies, decoder.window.most(rows), decoder.window.length(rows, 40))
        )
    assert met[0] == (0, 2, 16, 8) and met[-1][:3] == (3, 1, 32)


def test_narrow_heads_and_windows_that_are_no_multiple_of_four() -> None:
    model = tiny_gpt(d_model=32, n_head=4, n_kv_head=4, text_len=64, grid=(5, 4, 4))
    slow = generate(model, [[5, 6, 7]], seeds=[3], decoding="sequential")
    for window in (7, 31):
        equal(slow, generate(model, [[5, 6, 7]], seeds=[3], window=window))
    one = {"seeds": [3], "num_latent_frames": 1}  # a window of its 15 places
    equal(generate(model, [[5]], decoding="sequential", **one), generate(model, [[5]], **one))  # type: ignore[arg-type]


def test_a_clip_that_is_left_with_a_single_row_is_drawn_as_in_a_batch() -> None:
    model = tiny_gpt(d_model=256, n_head=4, n_kv_head=4)
    options = {"guidance_scale": 2.0, "guided_latent_frames": 1}
    generation = Generation(model, [[5]], seeds=[1], decoding="sequential", **options)  # type: ignore[arg-type]
    for _ in generation.frames():
        pass
    assert generation._decoder.cache.copies == 1 and generation._decoder.num_led == 0
    among = generate(model, [[6], [5], [7]], seeds=[3, 1, 2], **options)  # type: ignore[arg-type]
    assert torch.equal(generation.result().codes[0], among.codes[1])
    assert torch.equal(generation.result().log_prob[0], among.log_prob[1])


@pytest.mark.parametrize("order", ["frames", "shuffled"])
def test_guided_frames_are_drawn_as_guidance_draws_them_and_the_others_as_without(order: str) -> None:
    """Place by place, from the codes that stand before it."""
    turn = MODEL.layout.order(range(3))
    turn = turn if order == "frames" else turn[torch.randperm(36, generator=torch.Generator().manual_seed(1))]
    given = random_codes(MODEL, 1, 5)
    options = {"seeds": [9], "order": turn}
    made = generate(
        MODEL, [[5, 6]], known_codes=given, guidance_scale=2.5, guided_latent_frames=1, **options
    ).codes.flatten(1)[:, turn]
    drawn = (turn[5:] // 12).min()
    for number in range(5, 36):
        scale = 2.5 if turn[number] // 12 == drawn else 1.0
        again = generate(MODEL, [[5, 6]], known_codes=made[:, :number], guidance_scale=scale, **options)
        assert again.codes.flatten(1)[0, turn[number]] == made[0, number]
    for scale in (1.0, 2.5):
        other = generate(MODEL, [[5, 6]], known_codes=given, guidance_scale=scale, **options).codes
        assert not torch.equal(other.flatten(1)[:, turn], made)


def test_parallel_takes_fewer_passes_and_every_pass_counts() -> None:
    sequential = generate(MODEL, [[5]], seeds=[3], decoding="sequential")
    assert sequential.passes == 24
    likely = SamplingConfig(temperature=0.05)  # nearly certain draws: a window settles at once
    slow = generate(MODEL, [[5]], seeds=[3], sampling=likely, decoding="sequential")
    fast = generate(MODEL, [[5]], seeds=[3], sampling=likely, window=12)
    equal(slow, fast)
    assert fast.passes < slow.passes


@pytest.mark.parametrize("known", [2, 3, 34])
def test_given_codes_leave_the_same_cache_whatever_the_decoding(known: int) -> None:
    """Also where their number would leave a single row for the last pass."""
    model = tiny_gpt(d_model=256, n_head=4, n_kv_head=4)
    codes, caches = random_codes(model, 1, known), []
    for decoding in ("sequential", "parallel"):
        made = Generation(model, [[5]], seeds=[1], known_codes=codes, num_latent_frames=3, decoding=decoding)
        held = slice(0, model.layout.text_slots + known - 1)
        caches.append(torch.stack([torch.stack(pair)[:, 0, :, held] for pair in made._decoder.cache.layers]))
    assert torch.equal(*caches)


def test_drafts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate(MODEL, TEXTS, seeds=[1] * 5, decoding="sequential")

    def worst(self: FixedPoint, firsts: list[int], n: int) -> None:
        for row, first in enumerate(firsts):
            self.cache.codes[row, self.drafted[row] : first + n] = 59
            self.drafted[row] = max(self.drafted[row], first + n)

    monkeypatch.setattr(FixedPoint, "_draft", worst)
    equal(expected, generate(MODEL, TEXTS, seeds=[1] * 5, window=9))


def test_a_wrong_pass_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The equality can fail: taking one draw too many a pass gives other codes."""
    expected = generate(MODEL, TEXTS, seeds=[1] * 5, decoding="sequential")
    careful = FixedPoint._pass

    def hasty(self: FixedPoint) -> None:
        careful(self)
        self.done = [min(done + 1, self.num_codes) for done in self.done]
        self.settled = [min(settled + 1, self.num_codes - 1) for settled in self.settled]

    monkeypatch.setattr(FixedPoint, "_pass", hasty)
    assert not torch.equal(expected.codes, generate(MODEL, TEXTS, seeds=[1] * 5, window=9).codes)


def test_preview_is_done_in_the_passes_it_promises() -> None:
    got = generate(MODEL, TEXTS, seeds=[1] * 5, num_latent_frames=6, decoding="preview")
    assert got.passes <= 1 + math.ceil((72 - 1) / PREVIEW_CODES)
    assert got.codes.min() >= 0 and got.codes.max() < 60


@torch.inference_mode()
def test_a_preview_leaves_the_cache_as_its_codes_would_have() -> None:
    generation = Generation(MODEL, TEXTS, seeds=[1] * 5, num_latent_frames=6, decoding="preview")
    for _ in generation.frames():
        pass
    decoder = generation._decoder
    settled = min(decoder.settled) + MODEL.layout.text_slots
    held = [keys[:, :, :settled].clone() for keys, _ in decoder.cache.layers]
    for begin in range(0, 71, 8):
        decode_window(decoder.model, decoder.cache, [begin] * 5, min(8, 71 - begin))
    for before, (keys, _) in zip(held, decoder.cache.layers, strict=True):
        assert torch.equal(before, keys[:, :, :settled])


def test_frames_come_while_later_ones_are_still_to_be_drawn() -> None:
    generation = Generation(MODEL, TEXTS[:2], seeds=[1, 2], num_latent_frames=4)
    frames = generation.frames()
    t, first = next(frames)
    assert t == 0 and first.shape == (2, 1, 3, 4)
    passes = generation.result().passes
    first = first.clone()
    rest = list(frames)
    assert [t for t, _ in rest] == [1, 2, 3]
    assert generation.result().passes > passes
    assert torch.equal(generation.result().codes[:, :1], first)


def test_noise_window_is_the_noise_and_keeps_little_of_it() -> None:
    streams = [(3, 0), (3, 1)]
    for n in (1, 4, 64):
        window = NoiseWindow(streams, 10, n, torch.arange(603))
        for start in range(0, 600 - n - 39, 3):
            index = torch.tensor([[start], [start + 42]]) + torch.arange(n)
            got = window.at(index[:, 0].tolist(), n)
            for row, stream in enumerate(streams):
                assert torch.equal(got[row], gumbel(*stream, index[row], 10))
        assert int(index.max()) >= 600 and window.values.shape[1] == 2 * n + BLOCK


def test_noise_window_may_grow_and_step_back() -> None:
    window = NoiseWindow([(3, 0)], 10, 16, torch.arange(72))
    for start, n in [(start, 8) for start in (*range(1, 64, 8), 64)] + [(56, 16), (60, 12), (3, 16)]:
        index = torch.arange(start, start + n)[None]
        assert torch.equal(window.at([start], n)[0], gumbel(3, 0, index[0], 10))


@pytest.mark.parametrize("clips", [3, 5, 8])
def test_windows_that_grow_when_guidance_ends_near_the_end_of_a_clip(clips: int) -> None:
    model = tiny_gpt(grid=(6, 3, 4))
    texts, seeds = [[5 + i] for i in range(clips)], list(range(clips))
    draw = partial(generate, model, guidance_scale=2.0, guided_latent_frames=5)
    slow, fast = (draw(texts, seeds=seeds, decoding=name) for name in ("sequential", "parallel"))
    assert torch.equal(slow.codes, fast.codes) and torch.equal(slow.log_prob, fast.log_prob)
    alone = draw(texts[1:2], seeds=[1])
    assert torch.equal(alone.codes, slow.codes[1:2])


def test_a_generation_that_cannot_fit_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    need = needed_bytes(MODEL.config, 4, 24, 23)  # the most that a window of 24 codes may hold
    monkeypatch.setattr("kinolenta.transformer.memory.available_bytes", lambda device: need - 1)
    with pytest.raises(GenerationError, match=r"4 rows of 24 codes, and 0\.0 GB are free\. Make fewer"):
        generate(MODEL, TEXTS[:2], seeds=[1, 2], guidance_scale=2.0)
    monkeypatch.setattr("kinolenta.transformer.memory.available_bytes", lambda device: need)
    generate(MODEL, TEXTS[:2], seeds=[1, 2], guidance_scale=2.0)
    demo = needed_bytes(GPTConfig(), 2, 320, 64)
    assert 10e6 < demo < 100e6
    four, many = (needed_bytes(GPTConfig(), rows, 320, 64) for rows in (4, 32))
    assert many - demo == 15 * (four - demo) > 0.75 * 15 * demo
    assert available_bytes(torch.device("cpu")) != 0


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert allowed_bytes(tmp_path) is None  # no such file: no container
    for name, text in (
        ("max", "max\n"),
        ("current", "700\n"),
        ("stat", "anon 5\ninactive_file 100\nslab 7\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(text)
    assert allowed_bytes(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert allowed_bytes(tmp_path) == 400
    monkeypatch.setattr("kinolenta.transformer.memory.CONTAINER", tmp_path)
    assert available_bytes(torch.device("cpu")) == 400
    (tmp_path / "memory.max").write_text("500\n")
    assert allowed_bytes(tmp_path) == 0


@pytest.mark.parametrize(
    "change",
    [
        *({"decoding": decoding} for decoding in ("fast", 3)),
        *({"window": window} for window in (0, 65, 2.5, True)),
        *({"decoding": decoding, "window": 32} for decoding in ("sequential", "preview")),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object]) -> None:
    refusals = (
        "there is no decoding",
        r"a whole number in 1\.\.64",
        "'sequential' looks at one code a pass",
        "'preview' looks at 32 codes a pass",
    )
    with pytest.raises(ConfigError, match="|".join(refusals)):
        generate(MODEL, [[5]], seeds=[0], **change)  # type: ignore[arg-type]


def test_frame_after_frame_is_the_order_when_none_is_given() -> None:
    named = generate(MODEL, TEXTS, seeds=[1] * 5, order=MODEL.layout.order(range(3)))
    equal(named, generate(MODEL, TEXTS, seeds=[1] * 5, num_latent_frames=3))


def test_frames_drawn_out_of_turn_are_announced_in_turn() -> None:
    order = torch.cat((torch.arange(24, 36), torch.arange(24)))
    last = random_codes(MODEL, 2, 12)
    seen = []
    made = generate(
        MODEL,
        TEXTS[:2],
        seeds=[1, 2],
        known_codes=last,
        order=order,
        on_frame=lambda t, codes: seen.append((t, codes.clone())),
    )
    assert [t for t, _ in seen] == [0, 1, 2]
    for t, codes in seen:
        assert torch.equal(codes, made.codes[:, : t + 1])
    assert torch.equal(made.codes[:, 2].flatten(1), last)


@pytest.mark.parametrize(
    "order",
    [
        range(11),
        [*range(11), 12],
        [0, *range(11)],
        range(-12, 0),
        [*range(12), *range(12)],
        [],
        range(12 * 10**9, 12 * 10**9 + 12),
    ],
)
def test_an_order_that_leaves_gaps_is_refused(order: list[int]) -> None:
    with pytest.raises(ShapeError, match="every code of some of the first 1024 latent frames once"):
        generate(MODEL, [[5]], seeds=[0], order=torch.tensor([*order], dtype=torch.int64))


def test_an_order_of_another_kind_is_refused() -> None:
    for order in ([*range(12)], torch.arange(12).float(), torch.arange(12).view(3, 4), torch.tensor(3)):
        with pytest.raises(ShapeError, match="int64 tensor"):
            generate(MODEL, [[5]], seeds=[0], order=order)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="order names 1 latent frames, num_latent_frames is 2"):
        generate(MODEL, [[5]], seeds=[0], order=torch.arange(12), num_latent_frames=2)
