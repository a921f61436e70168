"""Key frames, last frames and rims are kept code for code, wherever in the clip they stand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinolenta.errors import ConfigError, MediaError, PromptError, ShapeError
from kinolenta.pipeline import VideoPipeline
from tests.end_to_end.test_pipeline import PROMPT, write_model

RNG = np.random.default_rng(0)
FILM = RNG.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)  # as long as a clip of this model
PICTURE, OTHER = FILM[0], FILM[8]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> VideoPipeline:
    pipe = VideoPipeline.from_pretrained(write_model(tmp_path_factory.mktemp("model")))
    torch.manual_seed(7)
    for parameter in pipe.transformer.parameters():  # strong enough for far codes to matter
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim > 1 else 1.0)
    return pipe


def still(pipe: VideoPipeline, picture: np.ndarray) -> np.ndarray:
    return pipe.encode(np.repeat(picture[None], 5, axis=0))[1].numpy()


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_the_last_frame_is_kept_and_leads_the_others(pipe: VideoPipeline, guidance_scale: float) -> None:
    clip = pipe(PROMPT, last_image=OTHER, guidance_scale=guidance_scale)
    assert np.array_equal(clip.codes[2], still(pipe, OTHER))
    other = pipe(PROMPT, last_image=PICTURE, guidance_scale=guidance_scale)
    assert not np.array_equal(clip.codes[:2], other.codes[:2])
    same = pipe(PROMPT, keyframes={np.int64(8): OTHER}, guidance_scale=guidance_scale)  # type: ignore[dict-item]
    assert np.array_equal(same.codes, clip.codes)


def test_both_ends_and_the_middle_may_be_given(pipe: VideoPipeline) -> None:
    clip = pipe(PROMPT, image=PICTURE, last_image=OTHER, keyframes={4: PICTURE}, rows=2)
    assert np.array_equal(clip.codes[0, :2], pipe.encode(PICTURE[None, :16]).numpy()[0])
    assert np.array_equal(clip.codes[1], still(pipe, PICTURE))
    assert np.array_equal(clip.codes[2], still(pipe, OTHER))
    film = pipe(PROMPT, video=FILM[:1], last_image=OTHER)
    assert np.array_equal(film.codes[:1], pipe.encode(FILM[:1]).numpy())
    assert np.array_equal(film.codes[2], still(pipe, OTHER))


def test_only_the_pixels_of_the_key_frame_itself_are_put_back(pipe: VideoPipeline) -> None:
    seen = pipe(PROMPT, last_image=OTHER)
    kept = pipe(PROMPT, last_image=OTHER, keep_pixels=True)
    assert np.array_equal(kept.frames[8], OTHER) and np.array_equal(kept.frames[:8], seen.frames[:8])


@pytest.mark.parametrize("given", [5, 9])
def test_the_rim_of_a_film_is_kept(pipe: VideoPipeline, given: int) -> None:
    clip = pipe(PROMPT, video=FILM, video_frames=given, border=1, keep_pixels=True)
    codes = pipe.encode(FILM[:given]).numpy()
    rim = np.ones(codes.shape, dtype=bool)
    rim[:, 1:-1, 1:-1] = False
    assert np.array_equal(clip.codes[: len(codes)][rim], codes[rim])
    assert np.array_equal(clip.frames[:given, :8], FILM[:given, :8])
    assert not np.array_equal(clip.frames[:given, 8:24, 8:24], FILM[:given, 8:24, 8:24])


@pytest.mark.parametrize(
    "options",
    [
        {"last_image": OTHER},
        {"image": PICTURE, "keyframes": {8: OTHER}, "keep_pixels": True},
        {"video": FILM, "border": 1},
        {"num_frames": 17},
        {"num_frames": 17, "video": FILM[:5], "keep_pixels": True},
        {"num_frames": 21, "image": PICTURE, "rows": 2},
    ],
)
def test_streams_batches_and_decodings_agree(pipe: VideoPipeline, options: dict[str, object]) -> None:
    clip = pipe(PROMPT, **options)  # type: ignore[call-overload]
    assert len(clip) == options.get("num_frames", 9)
    assert np.array_equal(np.stack(list(pipe.stream(PROMPT, **options))), clip.frames)  # type: ignore[arg-type]
    slow = pipe(PROMPT, decoding="sequential", **options)  # type: ignore[call-overload]
    assert np.array_equal(slow.codes, clip.codes) and slow.passes > clip.passes
    pair = pipe(["мяч", PROMPT], seed=[1, 0], **options)  # type: ignore[call-overload]
    assert np.array_equal(pair[1].codes, clip.codes)


def test_long_clips_begin_as_short_ones_do(pipe: VideoPipeline) -> None:
    long = pipe(PROMPT, num_frames=25, seed=3)
    assert np.array_equal(long.codes[:3], pipe(PROMPT, seed=3).codes)
    assert np.array_equal(long.codes[:5], pipe(PROMPT, num_frames=17, seed=3).codes)
    film = np.concatenate((FILM, FILM))[:17]
    continued = pipe(PROMPT, video=film, num_frames=25)
    assert np.array_equal(continued.codes[:5], pipe.encode(film).numpy())
    best = pipe(PROMPT, num_frames=17, best_of=2, guidance_scale=1.0)
    assert best.score is not None and np.isfinite(best.score)


def test_without_a_prompt_everything_is_left_to_the_model(pipe: VideoPipeline) -> None:
    clip = pipe(None, seed=5)
    assert clip.prompt == "" and not np.array_equal(clip.codes, pipe(PROMPT, seed=5).codes)
    pair = pipe([None, PROMPT], seed=5)
    assert np.array_equal(pair[0].codes, clip.codes)
    assert np.array_equal(pipe(None, seed=5, guidance_scale=4.0).codes, clip.codes)
    assert len(pipe(None, num_frames=1)) == 1
    with pytest.raises(ConfigError, match="best_of chooses by the prompt"):
        pipe([PROMPT, None], best_of=2)
    assert pipe(None, best_of=2, scorer=lambda clip: clip.candidate).candidate == 1


def test_questions_are_answered(pipe: VideoPipeline, tmp_path: Path) -> None:
    clip = pipe(PROMPT)
    text = pipe.answer(clip, "кто это?")
    assert isinstance(text, str) and text == pipe.answer(clip, " кто это?! ")
    assert isinstance(pipe.answer(clip.save(tmp_path / "clip.mp4"), "какой фон?"), str)
    for question in ("", "12?", None, "слово " * 200):
        with pytest.raises(PromptError, match=r"^question ") as caught:
            pipe.answer(clip, question)  # type: ignore[arg-type]
        assert "truncate" not in str(caught.value)
    with pytest.raises(PromptError, match=r"^text is \d+ tokens; this model takes \d+\. Shorten it\.$"):
        pipe.score(clip, ["слово " * 200])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"keyframes": {3: PICTURE}}, ShapeError, "key frame 3 cannot be; .* a multiple of 4"),
        ({"keyframes": {12: PICTURE}}, ShapeError, "below 9, the length of the clip"),
        ({"keyframes": {"4": PICTURE}}, ShapeError, "key frame '4' cannot be"),
        ({"keyframes": [PICTURE]}, ConfigError, "must be a dict .* got list"),
        ({"video": FILM}, ConfigError, "nothing is left to draw"),
        ({"image": PICTURE, "num_frames": 1}, ConfigError, "nothing is left to draw"),
        ({"best_of": 2, "scorer": lambda clip: 10**400}, ConfigError, "must return a number"),
        ({"keyframes": {8: PICTURE}, "last_image": OTHER}, ConfigError, "frame 8 is given twice"),
        ({"keyframes": {0: PICTURE}, "image": OTHER}, ConfigError, "frame 0 is given twice"),
        ({"keyframes": {4: PICTURE}, "video": FILM[:5]}, ConfigError, "lies within the video"),
        ({"keyframes": {0: PICTURE}, "video": FILM[:5]}, ConfigError, "lies within the video"),
        ({"keyframes": {4: np.zeros((1, 4000, 3), np.uint8)}}, MediaError, "4000x1 px"),
        ({"last_image": PICTURE, "num_frames": 17}, ShapeError, "at most 9 frames, .*; got 17"),
        ({"video": FILM, "border": 1, "num_frames": 17}, ShapeError, "at most 9 frames, .*; got 17"),
        ({"border": 1}, ConfigError, "how wide a rim of a video"),
        ({"video": FILM, "border": 2}, ShapeError, r"border is 2; .* in 1\.\.1"),
        ({"num_frames": 4097}, ShapeError, "at most 4093"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    pipe: VideoPipeline, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pipe(PROMPT, **options)  # type: ignore[call-overload]


def test_pictures_come_from_disk_too(pipe: VideoPipeline, tmp_path: Path) -> None:
    Image.fromarray(OTHER).save(tmp_path / "last.png")
    assert np.array_equal(
        pipe(PROMPT, last_image=tmp_path / "last.png").codes, pipe(PROMPT, last_image=OTHER).codes
    )


def test_numbers_of_numpy_are_numbers(pipe: VideoPipeline) -> None:
    plain = pipe(PROMPT, num_frames=5, image=PICTURE, rows=2, top_k=7, window=4, temperature=0.5)
    same = pipe(
        PROMPT,
        num_frames=np.int64(5),  # type: ignore[arg-type]
        image=PICTURE,
        rows=np.int32(2),  # type: ignore[arg-type]
        top_k=np.uint8(7),  # type: ignore[arg-type]
        window=np.int64(4),  # type: ignore[arg-type]
        temperature=np.float32(0.5),  # type: ignore[arg-type]
    )
    assert np.array_equal(plain.codes, same.codes)


@pytest.mark.parametrize(
    "option", [{"first_frame_top_k": 0}, {"first_frame_temperature": -1.0}, {"first_frame_top_p": 2.0}]
)
def test_options_of_the_first_frame_are_named_as_such(pipe: VideoPipeline, option: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        pipe(PROMPT, **option)  # type: ignore[call-overload]
