"""What is given is kept: pictures, the tops of pictures and beginnings of films, code for code."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinolenta.clip import Clip
from kinolenta.errors import ConfigError, KinolentaError, MediaError, PromptError, ShapeError
from kinolenta.media import resize, write
from kinolenta.pipeline import VideoPipeline
from kinolenta.transformer import code_log_probs
from kinolenta.transformer.scan import given_first
from tests.end_to_end.test_pipeline import PROMPT, write_model

RNG = np.random.default_rng(0)
FILM = RNG.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)  # as long as a clip of this model
PICTURE = FILM[0]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> VideoPipeline:
    return VideoPipeline.from_pretrained(write_model(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_the_top_rows_of_a_picture_are_kept(pipe: VideoPipeline, rows: int, guidance_scale: float) -> None:
    clip = pipe(PROMPT, image=PICTURE, rows=rows, guidance_scale=guidance_scale)
    top = pipe.encode(PICTURE[None, : 8 * rows]).numpy()
    assert np.array_equal(clip.codes[:1, :rows], top)
    other = PICTURE.copy()
    other[8 * rows :] = 255 - other[8 * rows :]  # what is not given has no say
    assert np.array_equal(
        pipe(PROMPT, image=other, rows=rows, guidance_scale=guidance_scale).codes, clip.codes
    )


def test_fewer_rows_leave_more_to_be_drawn(pipe: VideoPipeline) -> None:
    whole = pipe(PROMPT, image=PICTURE)
    assert np.array_equal(whole.codes, pipe(PROMPT, image=PICTURE, rows=4).codes)
    assert not np.array_equal(whole.codes[0], pipe(PROMPT, image=PICTURE, rows=2).codes[0])


@pytest.mark.parametrize(("given", "kept"), [(1, 1), (2, 1), (4, 1), (5, 5), (8, 5)])
def test_the_beginning_of_a_film_is_kept(pipe: VideoPipeline, given: int, kept: int) -> None:
    clip = pipe(PROMPT, video=FILM[:given])
    codes = pipe.encode(FILM[:kept]).numpy()
    assert np.array_equal(clip.codes[: len(codes)], codes)
    assert np.array_equal(clip.codes, pipe(PROMPT, video=FILM, video_frames=given).codes)
    assert clip.frames.shape == FILM.shape


def test_a_film_from_disk_is_brought_to_the_models_rate_and_size(pipe: VideoPipeline, tmp_path: Path) -> None:
    flat = np.repeat(np.arange(0, 180, 20, dtype=np.uint8), 3)[:, None, None, None]
    path = write(np.broadcast_to(flat, (27, 48, 64, 3)).copy(), tmp_path / "film.mp4", 24.0)
    clip = pipe(PROMPT, video=path, video_frames=5, keep_pixels=True)
    assert np.abs(clip.frames[:5].mean((1, 2, 3)) - [0, 20, 40, 60, 80]).max() < 4


@pytest.mark.parametrize("fps", [0.5, 1.0, 3.0])
def test_a_slow_film_is_shown_at_its_own_pace(pipe: VideoPipeline, tmp_path: Path, fps: float) -> None:
    path = write(np.repeat(FILM[:4], 2, axis=0), tmp_path / "slow.mp4", fps)
    clip = pipe(PROMPT, video=path, video_frames=5, keep_pixels=True)
    assert np.array_equal(clip.frames[0], clip.frames[2])  # still the first frame of the film
    assert np.array_equal(clip.codes[:2], pipe.encode(clip.frames[:5]).numpy())
    with pytest.raises(ShapeError, match="more frames than the clip"):
        pipe(PROMPT, video=path)


def test_given_pixels_come_back_as_they_were_if_asked_for(pipe: VideoPipeline) -> None:
    seen = pipe(PROMPT, video=FILM[:5])
    kept = pipe(PROMPT, video=FILM[:5], keep_pixels=True)
    assert np.array_equal(kept.frames[:5], FILM[:5])
    assert np.array_equal(kept.frames[5:], seen.frames[5:]) and np.array_equal(kept.codes, seen.codes)
    assert not np.array_equal(seen.frames[:5], FILM[:5])
    top = pipe(PROMPT, image=PICTURE, rows=2, keep_pixels=True)
    plain = pipe(PROMPT, image=PICTURE, rows=2)
    assert np.array_equal(top.frames[0, :16], PICTURE[:16])
    assert np.array_equal(top.frames[0, 16:], plain.frames[0, 16:])
    assert np.array_equal(top.frames[1:], plain.frames[1:])


@pytest.mark.parametrize("policy", ["cover", "contain"])
def test_pictures_are_fitted_by_the_stated_policy(pipe: VideoPipeline, policy: str) -> None:
    wide = RNG.integers(0, 256, (40, 90, 3), dtype=np.uint8)
    clip = pipe(PROMPT, image=wide, keep_pixels=True, resize_policy=policy)
    assert np.array_equal(clip.frames[0], resize(wide, 32, policy))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"image": PICTURE, "rows": 2}, {"video": FILM[:5]}, {"image": PICTURE, "rows": 3, "keep_pixels": True}],
)
def test_streams_and_decodings_agree_on_what_is_given(
    pipe: VideoPipeline, options: dict[str, object]
) -> None:
    clip = pipe(PROMPT, **options)  # type: ignore[arg-type]
    assert np.array_equal(np.stack(list(pipe.stream(PROMPT, **options))), clip.frames)  # type: ignore[arg-type]
    slow = pipe(PROMPT, decoding="sequential", **options)  # type: ignore[arg-type]
    assert np.array_equal(slow.codes, clip.codes) and slow.passes > clip.passes
    pair = pipe([PROMPT, "мяч"], seed=[0, 1], **options)  # type: ignore[arg-type]
    assert np.array_equal(pair[0].codes, clip.codes)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"image": PICTURE, "rows": 0}, ShapeError, r"rows is 0; .* in 1\.\.4"),
        ({"image": PICTURE, "rows": 5}, ShapeError, r"rows is 5; .* in 1\.\.4"),
        ({"image": PICTURE, "rows": 1.5}, ShapeError, r"rows is 1\.5"),
        ({"rows": 2}, ConfigError, "give one"),
        ({"image": PICTURE, "video": FILM}, ConfigError, "cannot both be given"),
        ({"video_frames": 2}, ConfigError, "give one"),
        ({"video": FILM, "video_frames": 10}, ShapeError, r"must lie in 1\.\.9"),
        ({"video": FILM, "video_frames": 0}, ShapeError, r"must lie in 1\.\.9"),
        (
            {"video": FILM[:3], "video_frames": 5},
            ShapeError,
            "no more than 4 frames at 8 per second",
        ),
        ({"video": FILM, "video_frames": True}, ShapeError, "video_frames is True"),
        ({"video": FILM, "num_frames": 5}, ShapeError, "more frames than the clip"),
        ({"video": FILM[:0]}, MediaError, "at least one frame"),
        ({"video": PICTURE}, MediaError, "at least one frame"),
        ({"video": FILM.astype(np.float32)}, MediaError, "uint8 array"),
        ({"video": 3}, MediaError, "got int"),
        ({"video": "absent.mp4"}, MediaError, "absent.mp4"),
        (
            {"image": np.zeros((1, 4000, 3), np.uint8)},
            MediaError,
            "^picture is 4000x1 px; one side may be at most 16",
        ),
        ({"video": np.zeros((5, 4000, 1, 3), np.uint8)}, MediaError, "^video is 1x4000 px"),
        ({"image": np.zeros((0, 8, 3), np.uint8)}, KinolentaError, "."),
        ({"best_of": 0}, ConfigError, r"in 1\.\.256"),
        ({"best_of": 2, "scorer": 5}, ConfigError, "function of a clip"),
        ({"scorer": len}, ConfigError, "ask for some with best_of"),
        ({"negative_prompt": ""}, KinolentaError, "^negative_prompt is empty"),
        ({"negative_prompt": "слово " * 200}, PromptError, r"^negative_prompt is \d+ tokens"),
        ({"sed": 1, "seeed": 2}, TypeError, "no option 'sed'; did you mean 'seed'"),
        ({"quux": None}, TypeError, "there are image, rows"),
        ({"negative_prompt": "дождь", "guidance_scale": 1.0}, ConfigError, "needs guidance"),
        ({"first_frame_temperature": -1.0}, ConfigError, "temperature is"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    pipe: VideoPipeline, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        pipe(PROMPT, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_first_frame_may_be_drawn_otherwise(pipe: VideoPipeline) -> None:
    plain = pipe(PROMPT)
    greedy = pipe(PROMPT, first_frame_temperature=0.0)
    assert np.array_equal(greedy.codes[0], pipe(PROMPT, temperature=0.0).codes[0])
    assert not np.array_equal(greedy.codes[0], plain.codes[0])
    assert np.array_equal(pipe(PROMPT, first_frame_top_k=1).codes[0], greedy.codes[0])
    rest = pipe(PROMPT, temperature=0.0, first_frame_temperature=1.0)
    assert np.array_equal(rest.codes[0], plain.codes[0]) and not np.array_equal(rest.codes, plain.codes)


@pytest.mark.parametrize(
    "given",
    [{}, {"image": PICTURE, "rows": 2}, {"last_image": PICTURE}, {"video": FILM, "border": 1},
     {"num_frames": 17}, {"negative_prompt": "синий мяч"}],
    ids=["nothing", "rows", "last", "rim", "long", "negative"],
)  # fmt: skip
def test_guidance_that_ends_is_exact_with_all_that_can_be_given(
    pipe: VideoPipeline, given: dict[str, object]
) -> None:
    options = {"guidance_frames": 1, "guidance_scale": 4.0, **given}
    slow = pipe(PROMPT, seed=1, decoding="sequential", **options)  # type: ignore[call-overload]
    together = pipe([PROMPT, "мяч", "кот"], seed=[1, 2, 3], **options)  # type: ignore[call-overload]
    assert np.array_equal(slow.codes, together[0].codes) and slow.log_prob == together[0].log_prob
    frames = np.stack([*pipe.stream(PROMPT, seed=1, **options)])  # type: ignore[arg-type]
    assert np.array_equal(frames, slow.frames)
    for frames_led in (17, 9):
        whole = pipe(PROMPT, seed=1, **(options | {"guidance_frames": frames_led}))  # type: ignore[call-overload]
        assert not np.array_equal(whole.codes, slow.codes)


def test_a_negative_prompt_changes_what_guidance_leads_away_from(pipe: VideoPipeline) -> None:
    plain, negative = pipe(PROMPT), pipe(PROMPT, negative_prompt="синий мяч")
    assert not np.array_equal(plain.codes, negative.codes)
    # Away from the very same text there is nowhere to go.
    same = pipe(PROMPT, negative_prompt=PROMPT, guidance_scale=5.0)
    assert np.array_equal(same.codes, pipe(PROMPT, guidance_scale=1.0).codes)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_the_best_of_several_candidates_is_kept(pipe: VideoPipeline, guidance_scale: float) -> None:
    best = pipe(PROMPT, best_of=4, guidance_scale=guidance_scale, seed=3)
    seen = []

    def last(clip: object) -> float:
        seen.append(clip)
        return float(clip.candidate)  # type: ignore[attr-defined]

    chosen = pipe(PROMPT, best_of=4, guidance_scale=guidance_scale, seed=3, scorer=last)
    assert chosen.candidate == 3 and len(seen) == 4
    assert max(seen, key=lambda clip: clip.text_log_prob).candidate == best.candidate
    assert best.text_log_prob == pytest.approx(pipe.score(best, PROMPT)[0].text_log_prob, abs=1e-3)
    assert np.array_equal(seen[0].codes, pipe(PROMPT, guidance_scale=guidance_scale, seed=3).codes)
    assert best.score is not None
    pair = pipe([PROMPT, "мяч"], best_of=4, guidance_scale=guidance_scale, seed=3)
    assert np.array_equal(pair[0].codes, best.codes) and pair[1].prompt == "мяч"
    with pytest.raises(ConfigError, match="a stream is of one clip"):
        next(pipe.stream(PROMPT, best_of=2))


@pytest.mark.parametrize("given", [{}, {"image": PICTURE}, {"image": PICTURE, "rows": 2}])
def test_scores_count_what_was_drawn_whatever_leads_it(pipe: VideoPipeline, given: dict[str, object]) -> None:
    """One score, however it comes about: by guidance, afterwards, or against a negative prompt."""
    guided = pipe(PROMPT, guidance_scale=2.0, best_of=2, scorer=lambda clip: clip.candidate, **given)  # type: ignore[call-overload]
    plain = pipe(PROMPT, guidance_scale=1.0, best_of=2, **given)  # type: ignore[call-overload]
    away = pipe(PROMPT, negative_prompt="синий мяч", **given)  # type: ignore[call-overload]
    known = 0 if not given else 4 * int(given.get("rows", 4))  # type: ignore[call-overload]
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask.view(-1)[:known] = True
    order = given_first(pipe.transformer.layout.order(range(3)), mask)
    for clip in (guided, plain, away):
        codes = torch.from_numpy(clip.codes)[None].expand(2, -1, -1, -1)
        texts = [pipe.tokenizer.encode(PROMPT), []]
        nats = code_log_probs(pipe.transformer, texts, codes, order).flatten(1)[:, known:].sum(1)
        assert clip.log_prob == pytest.approx(float(nats[0]), abs=1e-3)
        assert clip.score == pytest.approx(float(nats[0] - nats[1]), abs=1e-3)


@pytest.mark.parametrize(
    "given",
    [{"last_image": PICTURE}, {"keyframes": {4: PICTURE}}, {"video": FILM, "border": 1}],
    ids=["last", "key", "rim"],
)
def test_scores_of_codes_that_stand_out_of_their_turn_are_the_same_both_ways(
    pipe: VideoPipeline, given: dict[str, object]
) -> None:
    nearly_none = pipe(PROMPT, guidance_scale=1 + 1e-9, **given)  # type: ignore[call-overload]
    plain = pipe(PROMPT, guidance_scale=1.0, best_of=2, scorer=lambda clip: -clip.candidate, **given)  # type: ignore[call-overload]
    assert np.array_equal(plain.codes, nearly_none.codes)
    assert plain.score == pytest.approx(nearly_none.score, abs=1e-3)
    assert plain.log_prob == pytest.approx(nearly_none.log_prob, abs=1e-3)


def test_candidates_of_a_longer_clip_are_told_apart_by_what_was_drawn(pipe: VideoPipeline) -> None:
    said: dict[int, float] = {}

    def keep(clip: Clip) -> float:
        said[clip.candidate] = float(clip.text_log_prob or 0)
        return 0.0

    pipe(PROMPT, video=FILM, num_frames=17, best_of=4, scorer=keep)
    assert len(set(said.values())) == 4  # the first 9 frames are given, and alike
    best = pipe(PROMPT, video=FILM, num_frames=17, best_of=4)
    assert best.candidate == max(said, key=lambda candidate: said[candidate])


@pytest.mark.parametrize("found", [float("nan"), None, "a", [1]])
def test_a_scorer_must_find_a_number(pipe: VideoPipeline, found: object) -> None:
    with pytest.raises(ConfigError, match="must return a number"):
        pipe(PROMPT, best_of=2, scorer=lambda clip: found)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("window", "8"),
        ("window", 2.5),
        ("progress", 3),
        ("keep_pixels", "no"),
        ("truncate", 1),
        ("temperature", 1e-30),
    ],
)
def test_options_of_another_type_are_refused(pipe: VideoPipeline, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        pipe(PROMPT, **{option: value})


def test_a_clip_of_other_codes_is_not_read(pipe: VideoPipeline) -> None:
    clip = pipe(PROMPT)
    for codes in (clip.codes + 0.5, clip.codes[0], clip.codes[:0], None, clip.codes[:, :2]):
        with pytest.raises(ShapeError, match="must be whole numbers"):
            pipe.caption(replace(clip, codes=codes))


def test_a_clip_is_read_back(pipe: VideoPipeline, tmp_path: Path) -> None:
    clip = pipe(PROMPT)
    text = pipe.caption(clip)
    assert isinstance(text, str) and text == pipe.caption(clip)
    one, other = pipe.score(clip, [PROMPT, "мяч"])
    assert one.gain == pytest.approx(clip.score, abs=1e-3) and one.text_log_prob < 0
    assert pipe.score(clip, "мяч") == [pytest.approx(other, abs=1e-4)]
    assert pipe.caption(FILM) == pipe.caption(np.concatenate((FILM, FILM)))  # only its beginning is read
    assert isinstance(pipe.caption(clip.save(tmp_path / "clip.mp4")), str)
    with pytest.raises(KinolentaError, match="texts must be"):
        pipe.score(clip, [])
    with pytest.raises(KinolentaError, match="must contain words"):
        pipe.score(clip, ["12"])
    with pytest.raises(MediaError, match="got int"):
        pipe.caption(5)  # type: ignore[arg-type]


def test_an_order_keeps_what_is_given_first() -> None:
    from kinolenta.grid import GridPrompt

    given = torch.zeros(2, 2, 2, dtype=torch.bool)
    given[0, 1, 1] = given[1, 0, 0] = True
    codes = torch.arange(8).view(2, 2, 2)
    frames = np.zeros((5, 16, 16, 3), np.uint8)
    prompt = GridPrompt(codes=codes, given=given, frames=frames, pictured=np.ones(5, dtype=bool))
    assert not prompt.is_beginning
    order = torch.arange(12).view(3, 4).flip(1).flatten()  # of three latent frames, each from its end on
    assert prompt.first(order).tolist() == [3, 4, 2, 1, 0, 7, 6, 5, 11, 10, 9, 8]
    assert prompt.known_codes(order).tolist() == [[3, 4]]
    kept = prompt.keep(np.ones((9, 16, 16, 3), np.uint8))
    assert (kept[0, 8:, 8:] == 0).all() and (kept[0, :8] == 1).all()
    assert (kept[1:5, :8, :8] == 0).all() and (kept[1:5, 8:] == 1).all() and (kept[5:] == 1).all()
    assert np.array_equal(prompt.keep(np.ones((4, 16, 16, 3), np.uint8), 1), kept[1:5])
    with pytest.raises(ShapeError, match="2 latent frames are given, but the clip has 1"):
        prompt.first(order[:4])
