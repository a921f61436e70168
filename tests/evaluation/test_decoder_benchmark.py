"""The script that times the VQGAN: what it prints, and when it will not run."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kinolenta.checkpoint import save_weights
from kinolenta.kernels.products import Linear, convolution_of
from tests.evaluation.scripts import script, tiny_vqgan


@pytest.fixture
def model(tmp_path: Path) -> Path:
    vqgan = tiny_vqgan()
    save_weights(tmp_path / "model" / "decoder", vqgan.config, vqgan.state_dict(), dtype=torch.float32)
    return tmp_path / "model"


def test_figures_are_complete(
    model: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "decoder.json"
    arguments = ["--model", str(model), "--store", str(store), "--json", str(file)]
    assert script("decoder").main(arguments) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads(file.read_text(encoding="utf-8"))
    assert set(last["rows"]) == {"encode", "decode", "first frame"}
    for row in last["rows"].values():
        assert 0 < row["p20"] <= row["ms"] <= row["p80"] and row["gflops"] > 0
        assert row["share_of_ceiling"] == pytest.approx(row["gflops"] / last["ceiling_gflops"], rel=0.1)
    decode = last["rows"]["decode"]
    assert decode["fps"] == pytest.approx(17_000 / decode["ms"], rel=0.01)
    assert last["quality"]["clips"] == 2 and last["runs"] == 20


@torch.inference_mode()
def test_products_by_weights_laid_out_are_counted() -> None:
    operations = script("decoder").operations
    x, weight, bias = torch.randn(3, 8, 6, 6), torch.randn(16, 8, 3, 3), torch.randn(16)
    convolution = convolution_of(weight, bias, 2, 1)
    expected = operations(lambda: F.conv2d(x, weight, bias, 2, 1))
    assert operations(lambda: convolution(x)) == expected == 2 * 3 * 16 * 3 * 3 * 8 * 9 / 1e9
    rows, matrix = torch.randn(5, 12), torch.randn(7, 12)
    product = Linear(matrix)
    assert operations(lambda: product(rows)) == operations(lambda: F.linear(rows, matrix)) == 840 / 1e9
    assert operations(lambda: product.onto(torch.ones(5, 7), rows)) == 840 / 1e9


def test_few_runs_and_absent_models_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert script("decoder").main(["--model", str(model), "--runs", "3"]) == 1
    assert "at least 20" in capsys.readouterr().err
    assert script("decoder").main(["--model", str(tmp_path / "absent")]) == 1
    assert "cannot be read" in capsys.readouterr().err
