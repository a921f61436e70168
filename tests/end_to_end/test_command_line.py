"""The command with a real, if untrained, model: what comes out, and that bad input leaves nothing behind."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinolenta.checkpoint import save_weights
from kinolenta.cli import main
from kinolenta.decoder import VideoVQGAN, VQGANConfig
from kinolenta.kernels.products import Linear
from kinolenta.media import read_video, write
from kinolenta.tokenizer import TextTokenizer
from kinolenta.transformer import GPT, GPTConfig
from kinolenta.transformer.stable import StableProduct

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kinolenta", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run_command


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders transformer/ and decoder/ of the smallest model: frames of 16x16 px, 5 of them."""
    folder = tmp_path_factory.mktemp("stages")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vqgan = VQGANConfig(channels=(16, 32), encoder_blocks=(1, 1), decoder_blocks=(1, 1), size=16)
        gpt = GPTConfig(
            n_layer=1, n_head=2, n_kv_head=2, d_model=64, d_ff=64, text_dim=16, text_len=12, grid=(2, 2, 2),
            text_vocab_size=TextTokenizer.shipped().vocab_size,
        )  # fmt: skip
        save_weights(folder / "decoder", vqgan, VideoVQGAN(vqgan).state_dict())
        network = GPT(gpt)
        torch.nn.init.normal_(network.code_head.own)
        save_weights(folder / "transformer", gpt, network.state_dict())
    return folder


@pytest.fixture
def model(run: Run, stages: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    parts = ["--transformer", stages / "transformer", "--decoder", stages / "decoder"]
    code, out, _ = run("assemble", *parts, "-o", folder)
    assert (code, out) == (0, f"{folder}\n")
    return folder


def test_clip_reconstruction_and_facts(run: Run, model: Path, tmp_path: Path) -> None:
    film, both = tmp_path / "a.mp4", tmp_path / "b.webm"
    code, out, _ = run("generate", "рыжая кошка", "-o", film, "--model", model, "--seed", 5, "--json")
    facts = json.loads(out)
    assert code == 0 and (facts["frames"], facts["height"]) == (5, 16) and 2 <= facts["passes"] <= 8
    assert facts["log_prob"] < 0 and read_video(film)[0].shape == (5, 256, 256, 3)
    code, out, err = run("reconstruct", film, "-o", both, "--model", model, "--num-frames", 5)
    assert (code, out) == (0, f"{both}\n") and "PSNR" in err and read_video(both)[0].shape == (5, 256, 512, 3)
    code, out, _ = run("info", "--model", model, "--check", "--json")
    facts = json.loads(out)
    assert facts["decoder"] == "VideoVQGAN" and facts["transformer_parameters"] > 0
    assert facts["vocabulary"] > 0
    assert facts["parallel_equals_sequential"] is True


def test_a_folder_without_its_tokenizer_is_no_model(run: Run, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    shutil.rmtree(folder / "tokenizer")
    code, out, err = run("info", "--model", folder)
    assert code == 1 and out == "" and err.startswith(f"error: {folder / 'tokenizer'}") and "Check" in err


def test_check_tells_of_a_library_whose_rows_depend_on_their_number(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def product(self: StableProduct, x: Tensor) -> Tensor:
        return Linear.__call__(self, x) * (1 + 1e-6 * (x.numel() > 2 * x.shape[-1]))

    monkeypatch.setattr(StableProduct, "of_rows", product)
    code, out, _ = run("info", "--model", model, "--check", "--json")
    assert code == 0 and json.loads(out)["parallel_equals_sequential"] is False


def test_same_seed_gives_the_same_film(run: Run, model: Path, tmp_path: Path) -> None:
    films = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for film, seed in zip(films, (1, 1, 2), strict=True):
        assert run("generate", "кот", "-o", film, "--model", model, "--seed", seed)[0] == 0
    assert films[0].read_bytes() == films[1].read_bytes() != films[2].read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["12345"],
        [""],
        ["слово " * 5000],
        ["очень " * 100 + "длинный рассказ"],
        ["кот", "--image", "missing.png"],
        ["кот", "--image", "text.png"],
        ["кот", "--seed", "-1"],
        ["кот", "--seed", str(2**64)],
        ["кот", "--temperature", "-1"],
        ["кот", "--temperature", "nan"],
        ["кот", "--top-k", "0"],
        ["кот", "--top-p", "1.5"],
        ["кот", "--guidance-scale", "nan"],
        ["кот", "--guidance-scale", "inf"],
        ["кот", "-o", "no/such/folder.mp4"],
        ["кот", "-o", "text.png"],
        ["кот", "--model", "."],
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("не картинка", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    options = [] if "--model" in arguments else ["--model", str(model)]
    options += [] if "-o" in arguments else ["-o", "out.mp4"]
    code, out, err = run("generate", *arguments, *options)
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and err.rstrip().endswith(".")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1)])
def test_first_frame_of_which_nothing_would_be_left_is_refused(
    run: Run, model: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    picture = tmp_path / "first.png"
    write(np.full((1, *shape, 3), 128, np.uint8), picture, 1.0)
    code, out, err = run("generate", "кот", "-o", tmp_path / "a.gif", "--image", picture, "--model", model)
    assert (code, out) == (1, "") and "at most 16 times the other" in err and err.count("\n") == 1
    assert not (tmp_path / "a.gif").exists()


@pytest.mark.parametrize("shape", [(8, 128), (128, 8), (3, 3), (1, 1)])
def test_first_frame_of_any_shape_is_taken(
    run: Run, model: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    picture = tmp_path / "first.png"
    write(np.full((1, *shape, 3), 128, np.uint8), picture, 1.0)
    assert run("generate", "кот", "-o", tmp_path / "a.gif", "--image", picture, "--model", model)[0] == 0


@pytest.mark.parametrize("damage", ["index", "tokenizer", "weights", "config", "other stage"])
def test_damaged_model_is_one_line(run: Run, model: Path, tmp_path: Path, damage: str) -> None:
    match damage:
        case "index":
            (model / "model_index.json").write_text("{}", encoding="utf-8")
        case "tokenizer":
            (model / "tokenizer" / "tokenizer.json").write_text("{}", encoding="utf-8")
        case "weights":
            path = model / "transformer" / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-100])
        case "config":
            path = model / "decoder" / "config.json"
            values = json.loads(path.read_text(encoding="utf-8")) | {"channels": [16, 64]}
            path.write_text(json.dumps(values), encoding="utf-8")
        case "other stage":
            for name in ("config.json", "model.safetensors"):
                (model / "decoder" / name).write_bytes((model / "transformer" / name).read_bytes())
    code, out, err = run("generate", "кот", "-o", tmp_path / "a.mp4", "--model", model)
    assert (code, out) == (1, "") and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "a.mp4").exists()


def test_disk_that_fills_up_leaves_no_film(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kinolenta.media import writer

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_to_av", full)
    code, out, err = run("generate", "кот", "-o", tmp_path / "a.mp4", "--model", model)
    assert (code, out) == (1, "") and "No space left on device" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
