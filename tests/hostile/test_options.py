"""Options that nobody means: one sentence each, and no traceback."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kinolenta.checkpoint import (
    ModelIndex,
    count_parameters,
    demo_folder,
    load_index,
    save_index,
    save_weights,
)
from kinolenta.cli import main
from kinolenta.clip import Clip
from kinolenta.config import with_overrides
from kinolenta.decoder import VideoVQGAN, VQGANConfig
from kinolenta.errors import CheckpointError, ConfigError, KinolentaError, MediaError, ShapeError
from kinolenta.files import check_writable, write_json
from kinolenta.media import read_image, resize
from kinolenta.training.transformer import TransformerTrainConfig
from kinolenta.transformer import SamplingConfig, generate
from tests.transformer.tiny import tiny_gpt


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["kinolenta", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_values_that_no_parser_takes_are_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set steps: the value cannot be read"):
        with_overrides({}, [f"steps={value}"])
    config = tmp_path / "config.json"
    config.write_text('{"steps": ' + value)
    with pytest.raises(ConfigError, match="is not valid JSON"):
        TransformerTrainConfig.from_file(config)


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="text_weight must be a finite number"):
        TransformerTrainConfig.from_dict({"text_weight": value})


@pytest.mark.parametrize("top_k", [1.5, 5.0, "5", True])
def test_top_k_is_a_whole_number(top_k: object) -> None:
    with pytest.raises(ConfigError, match="top_k is"):
        SamplingConfig(top_k=top_k)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", ["a", True, None])
def test_guidance_is_a_number(scale: object) -> None:
    with pytest.raises(ConfigError, match="guidance_scale is"):
        generate(tiny_gpt(), [[5]], seeds=[0], guidance_scale=scale)  # type: ignore[arg-type]


def test_an_unknown_policy_is_refused_even_where_nothing_is_to_be_resized() -> None:
    with pytest.raises(ShapeError, match="Unknown resize policy 'stretch'"):
        resize(np.zeros((4, 4, 3), dtype=np.uint8), 4, "stretch")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [None, 5, b"a.mp4", ""])
def test_a_film_is_saved_to_a_path(path: object) -> None:
    clip = Clip(np.zeros((1, 8, 8, 3), dtype=np.uint8), 8.0, np.zeros((1, 1, 1), dtype=np.int64), "кот", 0)
    with pytest.raises(MediaError, match="saved to a path"):
        clip.save(path)  # type: ignore[arg-type]


def test_pictures_of_a_library_are_turned_upright_or_refused() -> None:
    class Picture:
        size, mode = (3, 2), "RGB"

        def getexif(self) -> dict[int, int]:
            return {0x0112: 6}

        def convert(self, mode: str) -> np.ndarray:
            return np.full((2, 3, 4), 255, dtype=np.uint8)

    assert read_image(Picture()).shape == (3, 2, 3)
    for mode in ("I;16", "I", "F"):
        Picture.mode = mode
        with pytest.raises(MediaError, match=f"mode {mode}, more than 8 bits"):
            read_image(Picture())


def test_a_picture_that_its_library_cannot_convert_is_a_media_error() -> None:
    class Odd:
        size = (4, 4)

        def convert(self, mode: str) -> None:
            raise ValueError("conversion from I;16 to RGBA not supported")

    with pytest.raises(MediaError, match="The image cannot be decoded"):
        read_image(Odd())


def test_names_of_folders_and_files_may_be_odd(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        load_index("x" * 300)
    long = tmp_path / ("я" * 120 + ".json")
    write_json(long, {}, KinolentaError)
    assert [path.name for path in tmp_path.iterdir()] == [long.name]
    (tmp_path / "link.mp4").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KinolentaError, match="not a regular file"):
        check_writable(tmp_path / "link.mp4", KinolentaError, overwrite=False)


def test_stdin_may_be_closed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(monkeypatch, "generate", "-", "-o", "out.mp4") == 1
    assert "stdin, which is closed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO("слово " * 300_000))
    assert run(monkeypatch, "generate", "-", "-o", "out.mp4") == 1
    assert "at most 4096 are taken" in capsys.readouterr().err


def test_another_kind_of_stage_is_noticed(tmp_path: Path) -> None:
    save_index(tmp_path, ModelIndex(fps=8.0))
    text = (tmp_path / "model_index.json").read_text().replace("VideoVQGAN", "Diffusion")
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(CheckpointError, match="Diffusion"):
        load_index(tmp_path)


def test_weights_cut_off_are_noticed_by_their_header(tmp_path: Path) -> None:
    config = VQGANConfig(channels=(8, 8), fsq_levels=(4, 4), size=32)
    save_weights(tmp_path, config, VideoVQGAN(config).state_dict(), dtype=torch.float16)
    assert count_parameters(tmp_path) > 1000
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is damaged"):
        count_parameters(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--temperature": "-1"}, "temperature"),
        ({"--guidance-scale": "nan"}, "guidance_scale"),
        ({"--guidance-frames": "2"}, "guidance_frames"),
        ({"--guidance-frames": "100001"}, "guidance_frames"),
        ({"--decoder": "other"}, "codebook_size"),
    ],
)
def test_assemble_refuses_before_it_writes(
    change: dict[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = VQGANConfig(channels=(8, 8), fsq_levels=(4, 4))
    save_weights(tmp_path / "other", other, VideoVQGAN(other).state_dict())
    options = {
        "--transformer": demo_folder() / "transformer",
        "--decoder": demo_folder() / "decoder",
        "-o": tmp_path / "model",
    } | {name: tmp_path / value if value == "other" else value for name, value in change.items()}
    words = [word for pair in options.items() for word in pair]
    assert run(monkeypatch, "assemble", *words) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_assemble_replaces_a_model_only_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_index(tmp_path, ModelIndex(fps=8.0))
    words = [
        "--transformer",
        demo_folder() / "transformer",
        "--decoder",
        demo_folder() / "decoder",
        "-o",
        tmp_path,
    ]
    assert run(monkeypatch, "assemble", *words) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(monkeypatch, "assemble", *words, "--overwrite") == 0
