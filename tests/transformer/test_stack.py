"""The stack that decoding runs is the model's blocks, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kinolenta.kernels.attention import Causal
from kinolenta.transformer.stable import StableProduct, row_stable
from kinolenta.transformer.stack import stack_of
from tests.transformer.tiny import tiny_gpt

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "sizes", [{}, {"n_kv_head": 1}, {"d_ff": 1100}, {"d_model": 640, "n_head": 10}], ids=str
)
@pytest.mark.parametrize("n", [1, 5, 33])
def test_stack_and_blocks_agree_in_every_bit(sizes: dict[str, int], n: int) -> None:
    sizes = {"n_kv_head": sizes.get("n_head", 2)} | sizes
    model = row_stable(tiny_gpt(**sizes))
    config, generator = model.config, torch.Generator().manual_seed(1)
    shape = (config.n_layer, 2, 3, config.n_kv_head, 64, config.head_dim)
    memory = torch.randn(shape, generator=generator)
    x = torch.randn(3, n, config.d_model, generator=generator)
    cos, sin = model.rotary(*torch.randint(0, 9, (2, 3, n, 4), generator=generator))
    found = []
    for run in (model.run_blocks, stack_of(model).run):
        mask = Causal(start=torch.tensor([20, 7, 30]), pad=torch.tensor([0, 3, 17]))
        cache = [(keys.clone(), values.clone()) for keys, values in memory.unbind()]
        with torch.inference_mode():
            hidden = run(x, cos, sin, mask, cache)
        found.append((hidden, torch.stack([torch.stack(pair) for pair in cache])))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert found[0][0].shape == x.shape and not torch.equal(found[0][1], memory)


@pytest.mark.parametrize("part", ["blocks", "stack"])
@pytest.mark.parametrize("width", [704, 1100, 45])
@pytest.mark.parametrize("multiplied", ["as a trial says", "twice"])
def test_a_row_alone_has_the_bits_that_it_has_among_others(
    part: str, width: int, multiplied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if multiplied == "twice":
        monkeypatch.setattr(StableProduct, "takes_lone_rows", lambda self: False)
    model = row_stable(tiny_gpt(d_model=256, n_head=4, n_kv_head=4, d_ff=width))
    config, generator = model.config, torch.Generator().manual_seed(1)
    memory = torch.randn(config.n_layer, 2, 3, 4, 64, 64, generator=generator)
    x = torch.randn(3, 1, 256, generator=generator)
    cos, sin = model.rotary(*torch.randint(0, 9, (2, 3, 1, 4), generator=generator))
    start, pad = torch.tensor([20, 7, 30]), torch.tensor([0, 3, 17])
    run = model.run_blocks if part == "blocks" else stack_of(model).run
    found = []
    for rows in (slice(None), slice(1, 2)):
        cache = [(keys[rows].clone(), values[rows].clone()) for keys, values in memory.unbind()]
        with torch.inference_mode():
            found.append(run(x[rows], cos[rows], sin[rows], Causal(start=start[rows], pad=pad[rows]), cache))
    assert torch.equal(found[0][1:2], found[1])


def test_a_row_alone_is_the_same_on_an_older_processor() -> None:
    """There a lone row takes another routine."""
    alone = test_a_row_alone_has_the_bits_that_it_has_among_others.__name__
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", alone],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "SSE41"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout


def test_a_stack_holds_no_weights_of_its_own() -> None:
    model = row_stable(tiny_gpt(d_ff=1100))
    stack = stack_of(model)
    assert stack.layers[1].down is model.blocks[1].feed_forward.down.product  # type: ignore[union-attr]


def test_a_stack_of_a_plain_model_is_that_of_its_view() -> None:
    model = tiny_gpt()
    x = torch.randn(5, model.config.d_model)
    plain, view = stack_of(model), stack_of(row_stable(model))
    assert torch.equal(plain.layers[0].qkv(x), view.layers[0].qkv(x))
