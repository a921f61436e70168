"""The pipeline from sentence to frames, on a tiny model with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kinolenta.checkpoint import ModelIndex, save_index, save_weights
from kinolenta.clip import Clip
from kinolenta.decoder import VideoVQGAN, VQGANConfig
from kinolenta.errors import CheckpointError, ConfigError, KinolentaError, MediaError, PromptError, ShapeError
from kinolenta.pipeline import VideoPipeline
from kinolenta.request import MAX_BATCH, Options
from kinolenta.tokenizer import TextTokenizer
from kinolenta.transformer import GPT, GPTConfig

VQGAN = VQGANConfig(
    channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), fsq_levels=(4, 4, 4), size=32
)
TRANSFORMER = GPTConfig(
    n_layer=2,
    n_head=2,
    n_kv_head=2,
    d_model=32,
    d_ff=32,
    text_dim=8,
    codebook_size=64,
    code_levels=(4, 4, 4),
    grid=(3, 4, 4),
    text_len=16,
)
PROMPT = "рыжая кошка бежит вправо по траве"


def write_model(folder: Path, transformer: GPTConfig = TRANSFORMER, decoder: VQGANConfig = VQGAN) -> Path:
    torch.manual_seed(0)
    modules = {"transformer": (GPT(transformer), transformer), "decoder": (VideoVQGAN(decoder), decoder)}
    for name, (module, config) in modules.items():
        for parameter in module.parameters():  # zero-initialised layers would make every clip alike
            torch.nn.init.normal_(parameter, std=0.3)
        save_weights(folder / name, config, module.state_dict(), dtype=torch.float16)
    TextTokenizer.shipped().save(folder / "tokenizer")
    save_index(folder, ModelIndex(fps=8.0))
    return folder


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> VideoPipeline:
    return VideoPipeline.from_pretrained(write_model(tmp_path_factory.mktemp("model")))


def test_a_sentence_becomes_a_clip(pipe: VideoPipeline) -> None:
    clip = pipe(PROMPT)
    assert isinstance(clip, Clip)
    assert clip.frames.shape == (9, 32, 32, 3) and clip.frames.dtype == np.uint8
    assert clip.codes.shape == (3, 4, 4) and clip.fps == 8.0 and clip.prompt == PROMPT
    assert clip.log_prob is not None and clip.log_prob < 0 and clip.score is not None
    assert pipe(PROMPT, guidance_frames=5).score is None
    assert pipe(PROMPT, guidance_frames=9).score == clip.score
    assert np.array_equal(clip.frames, pipe._develop(torch.from_numpy(clip.codes)))


def test_same_seed_same_clip_and_another_seed_another(pipe: VideoPipeline) -> None:
    first, again, other = pipe(PROMPT, seed=5), pipe(PROMPT, seed=5), pipe(PROMPT, seed=6)
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.codes, again.codes)
    assert not np.array_equal(first.codes, other.codes)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_clip_alone_equals_the_clip_in_a_list(pipe: VideoPipeline, guidance_scale: float) -> None:
    prompts = [PROMPT, "мяч", "две синие рыбы плывут влево в море", "снег"]
    together = pipe(prompts, seed=[1, 2, 3, 4], guidance_scale=guidance_scale)
    for number, prompt in enumerate(prompts):
        alone = pipe(prompt, seed=number + 1, guidance_scale=guidance_scale)
        assert np.array_equal(alone.codes, together[number].codes)
        assert np.array_equal(alone.frames, together[number].frames)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_parallel_and_sequential_make_the_same_clip(pipe: VideoPipeline, guidance_scale: float) -> None:
    slow = pipe(PROMPT, decoding="sequential", guidance_scale=guidance_scale)
    fast = pipe(PROMPT, guidance_scale=guidance_scale)
    assert np.array_equal(slow.frames, fast.frames) and np.array_equal(slow.codes, fast.codes)
    assert (slow.log_prob, slow.score) == (fast.log_prob, fast.score)
    assert fast.passes < slow.passes == 48
    assert pipe(PROMPT, decoding="preview", guidance_scale=guidance_scale).passes <= fast.passes


def test_streamed_frames_are_the_clip(pipe: VideoPipeline) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for options in ({"seed": 5}, {"image": image, "guidance_scale": 1.0}, {"num_frames": 1}):
        frames = list(pipe.stream(PROMPT, **options))
        assert np.array_equal(np.stack(frames), pipe(PROMPT, **options).frames)
        assert all(frame.dtype == np.uint8 for frame in frames)


def test_a_callers_autocast_changes_nothing(pipe: VideoPipeline) -> None:
    clip = pipe(PROMPT, seed=3)
    frames, codes = list(pipe.stream(PROMPT, seed=3)), pipe.encode(clip.frames)
    caption, score = pipe.caption(clip), pipe.score(clip, PROMPT)
    stream = pipe.stream(PROMPT, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        begun = pipe.stream(PROMPT, seed=3)
        assert np.array_equal(next(begun), frames[0])
        assert torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()
        same = pipe(PROMPT, seed=3)
        assert np.array_equal(same.frames, clip.frames) and same.log_prob == clip.log_prob
        assert all(np.array_equal(one, other) for one, other in zip(stream, frames, strict=True))
        assert torch.equal(pipe.encode(clip.frames), codes)
        assert pipe.caption(clip) == caption and pipe.score(clip, PROMPT) == score
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.bfloat16  # and it is the caller's again


def test_a_stream_yields_before_the_clip_is_drawn(pipe: VideoPipeline) -> None:
    told: list[tuple[int, int]] = []
    stream = pipe.stream(PROMPT, progress=lambda done, total: told.append((done, total)))
    assert next(stream).shape == (32, 32, 3)
    assert told == [(16, 48)]


@pytest.mark.parametrize(
    ("prompt", "options", "error"),
    [("", {}, PromptError), (["мяч"], {}, PromptError), (PROMPT, {"decoding": "fast"}, ConfigError)],
)
def test_a_stream_refuses_bad_input(
    pipe: VideoPipeline, prompt: str, options: dict[str, str], error: type[KinolentaError]
) -> None:
    with pytest.raises(error):
        next(pipe.stream(prompt, **options))


def test_a_list_longer_than_a_batch_keeps_its_order(pipe: VideoPipeline) -> None:
    prompts = [f"кошка номер {word}" for word in ("раз", "два", "три")] * (MAX_BATCH // 2)
    clips = pipe(prompts, num_frames=1, temperature=0.0)
    assert [clip.prompt for clip in clips] == prompts
    assert np.array_equal(clips[0].codes, clips[MAX_BATCH - MAX_BATCH % 3 + 3].codes)


def test_the_first_frame_is_the_decoded_image(pipe: VideoPipeline) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    clip = pipe(PROMPT, image=image)
    assert np.array_equal(clip.codes[:1], pipe.encode(image[None]).numpy())
    assert np.array_equal(clip.frames[:1], pipe.reconstruct(image[None]))
    assert clip.frames.shape == (9, 32, 32, 3)


@pytest.mark.parametrize("size", [(64, 48), (13, 200), (100, 33)])
def test_images_of_any_size_are_brought_to_the_frame(pipe: VideoPipeline, size: tuple[int, int]) -> None:
    clip = pipe(PROMPT, image=np.zeros((*size, 3), dtype=np.uint8), num_frames=5)
    assert clip.frames.shape == (5, 32, 32, 3)


def test_progress_is_told_and_ends_complete(pipe: VideoPipeline) -> None:
    told: list[tuple[int, int]] = []
    pipe([PROMPT, "мяч"], progress=lambda done, total: told.append((done, total)))
    assert told == [(32, 96), (64, 96), (96, 96)]


def test_options_change_the_draw(pipe: VideoPipeline) -> None:
    codes = [
        pipe(PROMPT, **options).codes
        for options in ({}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.1}, {"guidance_scale": 1.0})
    ]
    assert all(not np.array_equal(codes[0], other) for other in codes[1:])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": ""}, PromptError, "empty"),
        ({"prompt": "   "}, PromptError, "empty"),
        ({"prompt": 12}, PromptError, "must be a text"),
        ({"prompt": "12345"}, PromptError, "must contain words"),
        ({"prompt": "слово " * 400}, PromptError, "Shorten it"),
        ({"prompt": "слово " * 5000}, PromptError, "characters"),
        ({"num_frames": 4}, ShapeError, "Use 1 or 5 frames"),
        ({"num_frames": 4097}, ShapeError, "at most 4093"),
        ({"num_frames": 0}, ShapeError, "Use 1 or 5 frames"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"seed": [1, 2]}, ConfigError, "number of seeds is 2"),
        ({"seed": 1.5}, ConfigError, "seed"),
        ({"num_frames": "5"}, ShapeError, "whole number"),
        ({"num_frames": 5.0}, ShapeError, "whole number"),
        ({"temperature": -1.0}, ConfigError, "temperature"),
        ({"top_p": 2.0}, ConfigError, "top_p"),
        ({"decoding": "fast"}, ConfigError, "no decoding 'fast'; choose one of parallel"),
        ({"decoding": "sequential", "window": 8}, ConfigError, "'sequential' looks at one code a pass"),
        ({"guidance_scale": -3.0}, ConfigError, "guidance_scale"),
        ({"guidance_frames": 3}, ShapeError, "guidance_frames covers 3 frames; .* Use 1 or 5"),
        ({"guidance_frames": 0}, ShapeError, "guidance_frames covers 0 frames"),
        ({"guidance_frames": True}, ShapeError, "guidance_frames must be a whole number"),
        (
            {"guidance_frames": 100_001},
            ShapeError,
            "guidance_frames is 100001; this model makes clips of at most",
        ),
        ({"image": "missing.png"}, MediaError, "missing.png"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    pipe: VideoPipeline, options: dict[str, object], error: type[KinolentaError], message: str
) -> None:
    prompt = options.pop("prompt", PROMPT)
    with pytest.raises(error, match=message) as caught:
        pipe(prompt if isinstance(prompt, str) else [prompt], **options)  # type: ignore[list-item]
    assert "\n" not in str(caught.value)


def test_none_is_the_default_of_every_option(pipe: VideoPipeline) -> None:
    clip = pipe(PROMPT, **dict.fromkeys(Options.__annotations__))  # type: ignore[call-overload]
    assert np.array_equal(clip.codes, pipe(PROMPT).codes)


@pytest.mark.parametrize("prompt", [5, b"x", {}, {"кот"}])
def test_a_prompt_of_another_type_is_refused(pipe: VideoPipeline, prompt: object) -> None:
    with pytest.raises(PromptError, match=f"got {type(prompt).__name__}"):
        pipe(prompt)  # type: ignore[call-overload]


def test_a_long_prompt_is_cut_on_request(pipe: VideoPipeline) -> None:
    assert len(pipe("слово " * 100, truncate=True)) == 9


def test_unknown_options_are_type_errors(pipe: VideoPipeline) -> None:
    with pytest.raises(TypeError, match="num_inference_steps"):
        pipe(PROMPT, num_inference_steps=20)


def test_stages_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path, decoder=VQGANConfig(channels=(8, 8), fsq_levels=(4, 4), size=32))
    with pytest.raises(CheckpointError, match="codebook_size is 64 on one side and 16"):
        VideoPipeline.from_pretrained(folder)
