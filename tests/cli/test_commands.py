"""The other commands: reconstruct, train, data, info, help."""

import importlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kinolenta.media import read_image, read_video, write

ROOT = Path(__file__).resolve().parents[2]


def film(num_frames: int = 40) -> np.ndarray:
    values = np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * 3
    return np.broadcast_to(values, (num_frames, 32, 48, 3)).copy()


def test_reconstruction_stands_beside_the_original(tmp_path, run, pipeline, model) -> None:
    source = write(film(), tmp_path / "a.mp4", 16.0)
    result = run("reconstruct", source, "-o", tmp_path / "b.png", "--model", model, "--json")
    facts = json.loads(result.out)
    assert result.code == 0 and facts["frames"] == 17 and facts["psnr_db"] == pytest.approx(34.15, abs=0.01)
    assert "PSNR 34.15 dB over 17 frames" in result.err
    strip = read_image(tmp_path / "b.png").astype(int).reshape(16, 17, 2, 16, 3)
    assert np.array_equal(strip[:, :, 1], strip[:, :, 0] + 5)
    assert strip[0, 1, 0, 0, 0] == pytest.approx(6, abs=3), "every second frame of a film twice as fast"


def test_short_film_is_cut_to_what_the_decoder_takes(tmp_path, run, pipeline, model) -> None:
    source = write(film(8), tmp_path / "a.mp4", 8.0)
    result = run("reconstruct", source, "-o", tmp_path / "b.gif", "--model", model, "--only")
    assert result.code == 0 and result.out == f"{tmp_path / 'b.gif'}\n"
    assert "5 of 8 frames are used" in result.err
    assert read_video(tmp_path / "b.gif")[0].shape == (5, 256, 256, 3)


def test_reconstruct_refuses_what_is_no_film(tmp_path, run, pipeline, model) -> None:
    (tmp_path / "a.mp4").write_text("не фильм", encoding="utf-8")
    result = run("reconstruct", tmp_path / "a.mp4", "-o", tmp_path / "b.mp4", "--model", model)
    assert result.code == 1 and "it looks like text" in result.err and not (tmp_path / "b.mp4").exists()


def test_folder_that_is_no_model_is_named(tmp_path, run) -> None:
    for command in (["info"], ["reconstruct", "a.mp4", "-o", tmp_path / "b.mp4"]):
        result = run(*command, "--model", tmp_path)
        assert result.code == 1 and f"{tmp_path} is not a model folder" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "no_such_option=3"], "has no option 'no_such_option'"),
        (["--set", "optim.lerning_rate=3"], "Did you mean 'learning_rate'"),
        (["--set", "nothing"], "not of the form name=value"),
        (["--config", "missing.json"], "missing.json cannot be read"),
        (["--config", "bad.json"], "not valid JSON"),
        (["--config", "list.json"], "must be a JSON object"),
    ],
)
def test_bad_training_options_are_one_line(tmp_path, run, monkeypatch, arguments, words) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text("{")
    Path("list.json").write_text("[]")
    result = run("train", "decoder", "-o", "out", *arguments)
    assert result.code == 1 and result.out == "" and words in result.err
    assert result.err.startswith("error: ") and result.err.count("\n") == 1
    assert not Path("out").exists()


def test_captions_are_printed_one_a_line_and_repeat(run) -> None:
    result = run("data", "captions", "-n", 5, "--seed", 2)
    assert result.code == 0 and len(result.out.splitlines()) == 5
    assert run("data", "captions", "-n", 5, "--seed", 2).out == result.out
    rows = [
        json.loads(line) for line in run("data", "captions", "-n", 5, "--seed", 2, "--json").out.splitlines()
    ]
    assert [row["caption"] for row in rows] == result.out.splitlines() and all(
        "motion" in row for row in rows
    )


def test_unknown_split_and_missing_sources_are_one_line(tmp_path, run) -> None:
    result = run("data", "captions", "--split", "T9")
    assert result.code == 1 and "no split 'T9'" in result.err
    result = run("data", "render", tmp_path / "clips", "--set", "num_clips=0")
    assert result.code == 1 and "num_clips must be positive" in result.err
    result = run("data", "sheet", "-o", tmp_path / "a.png", "--cache", tmp_path / "empty")
    assert result.code == 1 and "kinolenta data fetch" in result.err and not (tmp_path / "a.png").exists()
    result = run("data", "sheet", "-o", tmp_path / "a.mp4")
    assert result.code == 1 and "must be a .png" in result.err


def test_version_is_printed(run) -> None:
    from kinolenta import __version__

    assert run("--version").out == f"{__version__}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["info"]])
def test_a_full_disk_behind_stdout_is_an_error_in_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "kinolenta", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device\n"


def test_help_is_plain_and_quick() -> None:
    """In processor time, the best of three: other processes may have the machine. Idle, it takes 0.2 s."""
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "kinolenta", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0 and "generate" in done.stdout and done.stderr == ""
    assert min(costs) < 0.5


@pytest.mark.parametrize("stage", ["tokenizer", "decoder", "transformer"])
def test_training_gets_its_config_and_prints_what_it_made(tmp_path, run, monkeypatch, stage) -> None:
    calls: list[tuple] = []

    def train(*arguments: object, **options: object) -> Path:
        calls.append((*arguments, options))
        return tmp_path / "model"

    module = importlib.import_module(f"kinolenta.training.{stage}")
    monkeypatch.setattr(module, "train", train)
    config = tmp_path / "config.json"
    option = {"tokenizer": "vocab_size", "decoder": "seed", "transformer": "seed"}[stage]
    stages = {"stages": [{"num_frames": 1, "batch": 1, "steps": 1}]} if stage == "decoder" else {}
    config.write_text(json.dumps({option: 300, **stages}), encoding="utf-8")
    resume = [] if stage == "tokenizer" else ["--resume"]
    result = run(
        "train", stage, "--config", config, "--set", f"{option}=512", "-o", tmp_path / "out", *resume
    )
    assert (result.code, result.out) == (0, f"{tmp_path / 'model'}\n"), result.err
    [(settings, *_, options)] = calls
    assert getattr(settings, option) == 512 and tmp_path / "out" in calls[0]
    assert options == ({"resume": True} if resume else {})
