"""Rounded weights draw other clips than exact ones, and the same ones however they are decoded."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from kinolenta.errors import ConfigError
from kinolenta.kernels.attention import Causal
from kinolenta.transformer import GPT, Generated, Int8Stack, generate, int8_stack_of
from kinolenta.transformer.int8 import _compiled, _rounded, _warn_of
from kinolenta.transformer.stable import row_stable
from kinolenta.transformer.stack import stack_of
from tests.transformer.tiny import random_codes, tiny_gpt

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
TEXTS = [[5, 6, 7], [], [8] * 9, [30, 31], [12]]


@pytest.fixture(scope="module")
def model() -> GPT:
    return row_stable(tiny_gpt(d_ff=1100, n_kv_head=1))


@pytest.fixture(scope="module")
def stack(model: GPT) -> Int8Stack:
    return int8_stack_of(model)


def clips(model: GPT, stack: Int8Stack, rows: slice, **options: object) -> Generated:
    texts = TEXTS[rows]
    return generate(model, texts, seeds=[3] * len(texts), int8=stack, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("guidance_scale", "guided"), [(1.0, None), (2.5, None), (2.5, 1)])
@pytest.mark.parametrize("window", [5, 24])
def test_parallel_equals_sequential(
    model: GPT, stack: Int8Stack, guidance_scale: float, guided: int | None, window: int
) -> None:
    options = {"guidance_scale": guidance_scale, "num_latent_frames": 3, "guided_latent_frames": guided}
    one_by_one = clips(model, stack, slice(None), decoding="sequential", **options)
    many = clips(model, stack, slice(None), window=window, **options)
    assert torch.equal(one_by_one.codes, many.codes) and torch.equal(one_by_one.log_prob, many.log_prob)
    assert many.passes < one_by_one.passes == 36
    alone = clips(model, stack, slice(3, 4), window=window, **options)
    assert torch.equal(alone.codes, many.codes[3:4])


def test_given_codes_stay(model: GPT, stack: Int8Stack) -> None:
    known = random_codes(model, 5, 7)
    made = clips(model, stack, slice(None), known_codes=known)
    assert torch.equal(made.codes.flatten(1)[:, model.layout.order([0])[:7]], known)


@torch.inference_mode()
def test_hidden_states_are_nearly_those_of_the_exact_weights(model: GPT, stack: Int8Stack) -> None:
    config, generator = model.config, torch.Generator().manual_seed(1)
    memory = torch.randn(2, 2, 3, 1, 64, config.head_dim, generator=generator)
    x = torch.randn(3, 6, config.d_model, generator=generator)
    cos, sin = model.rotary(*torch.randint(0, 9, (2, 3, 6, 4), generator=generator))
    mask = Causal(start=torch.tensor([20, 7, 30]), pad=torch.tensor([0, 3, 17]))
    exact, rounded = (
        run(x, cos, sin, mask, [(keys.clone(), values.clone()) for keys, values in memory.unbind()])
        for run in (stack_of(model).run, stack.run)
    )
    assert exact.shape == rounded.shape and not torch.equal(exact, rounded)
    assert float((exact - rounded).norm() / exact.norm()) < 0.1


@torch.inference_mode()
def test_rows_do_not_depend_on_their_number(stack: Int8Stack) -> None:
    _, between, _ = _compiled()
    first, second = stack.layers
    shapes = ((32,), (32,), (1, 16), (1, 16))
    x, attended, cos, sin = (torch.randn(700, *shape) for shape in shapes)

    def some(rows: slice) -> tuple[torch.Tensor, ...]:
        return between(x[rows], attended[rows], first, second, cos[rows], sin[rows], 3, stack.eps)

    whole = some(slice(None))
    for rows in (slice(0, 2), slice(1, 4), slice(5, 37), slice(9, 73), slice(100, 700)):
        for part, of in zip(some(rows), whole, strict=True):
            assert torch.equal(part, of[rows])


def test_weights_are_rounded_output_by_output() -> None:
    weight = torch.randn(20, 6) * torch.tensor([1e-3, 1.0, 50.0, 0.0, 1.0, 1.0])
    rounded = _rounded(weight.t(), 127)
    assert rounded.values.dtype == torch.int8 and int(rounded.values.abs().max()) == 127
    error = (rounded.values.float() * rounded.scale - weight).abs().amax(0)
    assert (error <= weight.abs().amax(0) / 127 * 0.501 + 1e-12).all() and not rounded.values[:, 3].any()


def test_threads_may_share_a_stack(model: GPT, stack: Int8Stack) -> None:
    expected = [clips(model, stack, slice(row, row + 1)).codes for row in range(5)]
    found: dict[int, torch.Tensor] = {}

    def draw(row: int) -> None:
        found[row] = clips(model, stack, slice(row, row + 1)).codes

    threads = [threading.Thread(target=draw, args=(row,)) for row in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[row], codes) for row, codes in enumerate(expected))


def test_without_a_compiler_it_is_refused(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    def fails(*inputs: object) -> None:
        raise InductorError(InvalidCxxCompiler(), None)

    monkeypatch.setattr("kinolenta.transformer.int8._compiled", lambda: (fails,) * 3)
    with pytest.raises(ConfigError, match=r"int8 needs torch\.compile and a C\+\+ compiler.*No working C"):
        int8_stack_of(model)


def test_nothing_is_compiled_after_loading(model: GPT, stack: Int8Stack) -> None:
    with torch._dynamo.config.patch(error_on_recompile=True):
        for scale in (1.0, 2.5):
            for window in (1, 2, 7, 24):
                for known in (0, 2, 3, 34, 36):
                    codes = random_codes(model, 5, known)
                    for rows in (slice(0, 1), slice(0, 3)):
                        made = clips(
                            model,
                            stack,
                            rows,
                            guidance_scale=scale,
                            window=window,
                            known_codes=codes[rows],
                            num_latent_frames=3,
                        )
                        order = model.layout.order(range(3))[:known]
                        assert torch.equal(made.codes.flatten(1)[:, order], codes[rows])


@pytest.mark.parametrize("processor", ["AVX2", "AVX512_CORE", "DEFAULT"])
def test_sums_are_whole_numbers_on_older_processors(processor: str) -> None:
    code = (
        "import torch; from kinolenta.transformer.int8 import _rounded, largest_weight\n"
        "largest = largest_weight(); weight = _rounded(torch.randn(64, 704), largest).values\n"
        "rows = torch.randn(32, 704).mul(60).clamp(-127, 127).round().to(torch.int8); rows[0] = 127\n"
        "weight[:, 0] = largest; weight[:, 1] = -largest\n"
        "assert torch.equal(torch._int_mm(rows, weight).long(), rows.long() @ weight.long()); print(largest)"
    )
    environment = os.environ | ({} if processor == "DEFAULT" else {"ONEDNN_MAX_CPU_ISA": processor})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("63", "127")


def test_a_processor_without_fast_int8_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of.cache_clear()
    for capability in ("AVX512", "AVX2", "AVX2"):
        _warn_of(capability)
    _warn_of.cache_clear()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "choose float32" in caplog.text


def test_a_stack_of_another_model_is_refused(stack: Int8Stack) -> None:
    with pytest.raises(ConfigError, match="int8 was made of another model"):
        clips(row_stable(tiny_gpt()), stack, slice(0, 1))


def test_other_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="int8 is for float32 weights on a CPU"):
        int8_stack_of(row_stable(tiny_gpt().bfloat16()))
