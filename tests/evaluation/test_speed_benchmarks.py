"""What the benchmarks of generation count, compare and refuse."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from kinolenta.transformer import decoding, generate
from kinolenta.transformer.stable import StableProduct, row_stable
from kinolenta.transformer.stack import stack_of
from tests.evaluation.scripts import script
from tests.transformer.tiny import tiny_config, tiny_gpt

speed, windows, shapes = script("generate"), script("windows"), script("shapes")
MODEL = tiny_gpt()


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(decoding, "decode_window", decoding.decode_window)  # so that it is put back
    return speed.Places()


def test_places_are_all_that_passes_look_at(places: Any) -> None:
    one = generate(MODEL, [[5, 6]], seeds=[0], window=4)
    assert places.taken() == 4 * (one.passes - 1)  # one pass is the text's
    both = generate(MODEL, [[5, 6], [7]], seeds=[0, 1], window=4, guidance_scale=2.0)
    assert places.taken() == 2 * 2 * 4 * (both.passes - 1)
    generate(MODEL, [[5, 6]], seeds=[0], decoding="sequential", guidance_scale=2.0, guided_latent_frames=1)
    assert places.taken() == 2 * 11 + 12 and places.taken() == 0


def test_shares_are_those_of_the_ceilings() -> None:
    pipe = SimpleNamespace(transformer=MODEL)
    weights = sum(weight.numel() for weight in MODEL.blocks.parameters()) + MODEL.code_head.own.numel()
    clip = SimpleNamespace(passes=10, codes=np.zeros((2, 3, 4)))
    timed = {"parallel": [speed.Timed(0.5, 80, [clip])] * 3, "parallel, int8": [speed.Timed(0.5, 80, [clip])]}
    limit = {"flops": 2 * weights * 80 / 0.5 * 4, "bytes": 4 * weights * 10 / 0.5 * 5}
    row, other = speed.rows(pipe, timed, "first frames", 1, limit)
    assert (row["of_arithmetic"], row["of_bandwidth"]) == (0.25, 0.2)
    assert (row["ms_a_pass"], row["codes_a_second"]) == (50, 48)
    assert "of_arithmetic" not in other  # the ceilings are of float32


def test_windows_are_compared_code_for_code() -> None:
    def pipe(prompts: list[str], *, seed: int, window: int = 8, wrong: int = 0, **case: Any) -> list[Any]:
        codes = np.full((1, 4, 4), seed)
        codes[0, 0, 0] += window == wrong
        return [SimpleNamespace(prompt=prompt, codes=codes, passes=16 // window) for prompt in prompts]

    options = SimpleNamespace(windows=[1, 2, 4], batch=1, seeds=2, rounds=1)
    rows = windows.compare(pipe, "unguided", options)
    assert [(row["window"], row["passes"]) for row in rows] == [(1, 16), (2, 8), (4, 4), ("own", 2)]
    assert rows[0]["times_first"] == 1 and rows[2]["codes_a_pass"] == 4
    with pytest.raises(SystemExit, match="differ with window 4"):
        windows.compare(lambda *args, **kinds: pipe(*args, wrong=4, **kinds), "unguided", options)


def test_shaped_transformers_have_the_size_and_keep_the_rest() -> None:
    model = shapes.shaped(tiny_config(), "small")
    wanted = replace(tiny_config(), n_layer=8, d_model=512, n_head=8, n_kv_head=8, d_ff=1344)
    assert model.config == wanted and not any(weight.requires_grad for weight in model.parameters())
    assert 0.07 < float(model.blocks[0].attention.qkv.weight.std()) < 0.08


def test_products_alone_are_those_of_every_matrix_for_the_rows_of_each_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers, model, met = script("peers"), row_stable(MODEL), []
    run = peers.products_of(model)
    multiply = StableProduct.__call__

    def noted(self: StableProduct, x: Tensor) -> Tensor:
        met.append((len(x), self))
        return multiply(self, x)

    monkeypatch.setattr(StableProduct, "__call__", noted)
    run([[[True] * 5], [[True, False]]])
    assert [rows for rows, _ in met] == [5] * (len(met) // 2) + [2] * (len(met) // 2)
    weights = [
        layer for block in stack_of(model).layers for layer in (block.qkv, block.out, block.up, block.down)
    ]
    weights.append(model.tables()[1])
    assert len(met) == 2 * len(weights) and {weight for _, weight in met} == set(weights)


def test_settings_of_guidance() -> None:
    guidance = script("guidance")
    assert guidance.setting("2:5") == {"guidance_scale": 2.0, "guidance_frames": 5}
    assert guidance.setting("1") == {"guidance_scale": 1.0, "guidance_frames": None}


@pytest.mark.parametrize("multiplied", [True, False])
def test_training_is_timed_in_the_numbers_that_the_processor_multiplies(
    multiplied: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    training = script("train")
    monkeypatch.setattr("kinolenta.training.dtype.multiplies", lambda dtype: multiplied)
    monkeypatch.setattr(training, "ceiling", lambda dtype: 1e12)
    arguments = ["train.py", "--runs", "1", "--batch", "1", "--n-layer", "1", "--d-model", "64"]
    monkeypatch.setattr("sys.argv", arguments)
    training.main()
    *lines, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["rows"]
    assert list(rows) == ["float32", "bfloat16"][: 1 + multiplied]
    assert any(line.startswith("bfloat16: not measured") for line in lines) is not multiplied
    assert all(0 < row["share"] < 1 and row["tokens_a_second"] > 0 for row in rows.values())
