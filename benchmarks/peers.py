"""A clip of codes by our loop, transformers' ``generate``, dalle-pytorch and min-dalle: one run, like shapes.

    python benchmarks/peers.py --size small --runs 5

Random weights, batch 1, no guidance, temperature 1; 66 slots of text, then 256 codes (small: 8 layers of
width 512; large: 12 of 768). Float32; with ``--precision bfloat16`` ours and transformers once more in that,
each compared with the best of transformers in the same numbers; int8, whose small operations are compiled,
with that in float32, for transformers runs uncompiled. The peers run in turn. Which drafts a parallel pass
gets right is a matter of training, which random weights have not had: so it is replayed from clips of as many
codes that the shipped demo has drawn in float32 without guidance, eight sentences a run, with another seed
in each. All else is done and timed as it is, nothing is scaled. The matrix products of the same passes are
timed by themselves too: no order of the rest makes a clip sooner. Peers that are not installed are named. The
last line is JSON.
"""

import argparse
import importlib.util
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from generate import PROMPTS  # beside this file
from shapes import SIZES, shaped

from kinolenta.pipeline import VideoPipeline
from kinolenta.transformer import GPTConfig, generate
from kinolenta.transformer.decoding import FixedPoint
from kinolenta.transformer.generate import Generated
from kinolenta.transformer.precision import PRECISIONS, with_precision
from kinolenta.transformer.stable import View, row_stable
from kinolenta.transformer.stack import stack_of
from kinolenta.transformer.window import MAX_WINDOW

TEXT, CODES, CODEBOOK = 66, 256, 8192
FRAMES = 13  # of the demo's clips of as many codes
OTHERS = PRECISIONS[1:]


def ours(size: str) -> View:
    config = GPTConfig(text_len=TEXT - 2, codebook_size=CODEBOOK, code_levels=(), grid=(4, 8, 8))
    return row_stable(shaped(config, size))


def theirs(size: str, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """transformers: GPT-2 and Llama shapes, their vocabulary no larger than our codebook."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    layers, width, heads, inner = SIZES[size]
    slots = TEXT + CODES
    gpt2 = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=CODEBOOK,
            n_positions=slots,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            n_inner=4 * width,
        )
    )
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=CODEBOOK,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=slots,
        )
    )
    gpt2, llama = gpt2.eval().to(dtype), llama.eval().to(dtype)
    ids = torch.randint(3, CODEBOOK, (1, TEXT))

    def run(model: Any, **options: Any) -> Any:
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            max_new_tokens=CODES,
            min_new_tokens=CODES,
            pad_token_id=0,
            **options,
        )
        assert made.shape[1] == slots
        return made

    return {
        "transformers GPT-2, dynamic cache": lambda: run(gpt2),
        "transformers Llama, dynamic cache": lambda: run(llama),
        "transformers Llama, static cache": lambda: run(
            llama, cache_implementation="static", disable_compile=True
        ),
    }


def dalle_pytorch(size: str) -> Callable[[], Any]:
    """DALLE.generate_images with its cache, and a discrete VAE too small to be felt.

    Its blocks are its own: feed-forwards of four widths with a gate. Without guidance it forgets to hand the
    cache on, and computes everything anew for each code; here it is handed on.
    """
    from dalle_pytorch import DALLE, DiscreteVAE

    layers, width, heads, _ = SIZES[size]
    side = math.isqrt(CODES)
    vae = DiscreteVAE(image_size=8 * side, num_layers=3, num_tokens=CODEBOOK, codebook_dim=8, hidden_dim=8)
    dalle = DALLE(
        dim=width,
        vae=vae,
        num_text_tokens=GPTConfig().text_vocab_size,
        text_seq_len=TEXT,
        depth=layers,
        heads=heads,
        dim_head=width // heads,
    ).eval()
    dalle.forward_with_cond_scale = lambda *texts, cond_scale, **options: dalle(*texts, **options)
    text = torch.randint(3, CODEBOOK, (1, TEXT))
    return lambda: dalle.generate_images(text, filter_thres=0.0, use_cache=True)


def min_dalle(size: str) -> Callable[[], Any]:
    """The loop of MinDalle over its decoder: two rows, for it always guides, and attention to a text besides.

    The encoder of the text is left out.
    """
    from min_dalle.models import DalleBartDecoder

    layers, width, heads, inner = SIZES[size]
    decoder = DalleBartDecoder(CODEBOOK, width, heads, inner, layers, "cpu").eval()
    text_state, seen = torch.randn(2, TEXT, width), torch.ones(2, 1, 1, TEXT, dtype=torch.bool)
    settings = torch.tensor([1.0, CODEBOOK, 3.0])  # temperature, top-k, guidance

    def run() -> Any:
        codes = torch.full((1, CODES + 1), CODEBOOK)
        state = torch.zeros(layers, 4, CODES, width)
        for index in range(CODES):
            codes[:, index + 1], state = decoder.sample_tokens(
                settings=settings,
                attention_mask=seen,
                encoder_state=text_state,
                attention_state=state,
                prev_tokens=codes[:, [index]],
                token_index=torch.tensor([index]),
            )
        return codes

    return run


class Replay:
    """Which drafts held, pass by pass: written down from the demo's clips, then played to other models."""

    def __init__(self) -> None:
        self.clips: dict[tuple[str, int], list[list[list[bool]]]] = {}
        self._held = FixedPoint._held

    def record(self, pipe: VideoPipeline, prompt: str, seed: int) -> None:
        passes: list[list[list[bool]]] = []

        def held(state: FixedPoint, drawn: Tensor, drafts: Tensor) -> list[list[bool]]:
            passes.append(self._held(state, drawn, drafts))
            return passes[-1]

        with mock.patch.object(FixedPoint, "_held", held):
            clip = pipe(prompt, seed=seed, temperature=1.0, guidance_scale=1.0, num_frames=FRAMES)
        assert clip.codes.size == CODES and clip.passes == len(passes) + 1
        self.clips[prompt, seed] = passes

    def play(self, work: Callable[[], Generated], prompt: str, seed: int) -> Generated:
        passes = iter(self.clips[prompt, seed])

        def held(state: FixedPoint, drawn: Tensor, drafts: Tensor) -> list[list[bool]]:
            asked, played = self._held(state, drawn, drafts), next(passes)
            assert len(asked[0]) == len(played[0])  # windows follow what held
            return played

        with mock.patch.object(FixedPoint, "_held", held):
            made = work()
        assert next(passes, None) is None
        return made


def products_of(model: View) -> Callable[[list[list[list[bool]]]], None]:
    """What multiplies as many rows as each pass of a clip looks at, by every matrix of the model, and does
    nothing else.
    """
    stack, head = stack_of(model), model.tables()[1]
    wide, inner = (torch.randn(MAX_WINDOW, size) for size in (model.config.d_model, model.config.d_ff))

    def run(passes: list[list[list[bool]]]) -> None:
        for held in passes:
            x, y = (rows[: len(held[0])] for rows in (wide, inner))
            for layer in stack.layers:
                for weight in (layer.qkv, layer.out, layer.up):
                    weight(x)
                layer.down(y)
            head(x)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="Time our loop beside others.")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--precision",
        choices=OTHERS,
        nargs="+",
        default=[],
        help="beside float32: bfloat16, also of transformers; int8, ours alone, needs a C++ compiler",
    )
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be 1 or more.")
    model = ours(options.size)
    text = [list(range(10, 10 + TEXT - 2))]
    pipe, replay = VideoPipeline.from_pretrained(), Replay()
    for seed in range(options.runs + 1):
        for prompt in PROMPTS:
            replay.record(pipe, prompt, seed)
    cases: dict[str, Callable[[], Any]] = {
        "ours, sequential": lambda: generate(model, text, seeds=[0], decoding="sequential"),
        "ours, parallel": lambda: generate(model, text, seeds=[0]),
        "ours, sequential, guided": lambda: generate(
            model, text, seeds=[0], guidance_scale=3.0, decoding="sequential"
        ),
    }
    for kind in options.precision:
        other, stack = with_precision(model, kind)
        draw = partial(generate, other, text, seeds=[0], int8=stack)
        cases |= {f"ours, sequential, {kind}": partial(draw, decoding="sequential")}
        cases |= {f"ours, parallel, {kind}": draw}
    absent = [name for name in ("dalle_pytorch", "min_dalle") if importlib.util.find_spec(name) is None]
    if importlib.util.find_spec("transformers") is not None:
        cases |= theirs(options.size, torch.float32)
        if "bfloat16" in options.precision:
            shorter = theirs(options.size, torch.bfloat16)
            cases |= {f"{name}, bfloat16": work for name, work in shorter.items()}
    if "dalle_pytorch" not in absent:
        cases["dalle-pytorch, cached"] = dalle_pytorch(options.size)
    if "min_dalle" not in absent:
        cases["min-dalle, guided"] = min_dalle(options.size)
    for kind in ("", *(f", {kind}" for kind in options.precision)):
        one, other = (cases[f"ours, {name}{kind}"]().codes for name in ("sequential", "parallel"))
        if not torch.equal(one, other):
            raise SystemExit("parallel and sequential codes differ; nothing is timed.")
    replayed = [name for name in cases if name.startswith("ours, parallel")]
    others = [name for name in cases if name not in replayed]
    products, alone = products_of(model), "ours, parallel, its products alone"
    times: dict[str, list[float]] = {name: [] for name in (*cases, alone)}
    for run in tqdm(range(options.runs + 1), file=sys.stderr):
        took: dict[str, list[float]] = {name: [] for name in times}
        for number, prompt in enumerate(PROMPTS):  # a clip of each sentence, and the others in between
            works = {name: partial(replay.play, cases[name], prompt, run) for name in replayed}
            works |= {alone: partial(products, replay.clips[prompt, run])}
            works |= {name: cases[name] for name in others[number :: len(PROMPTS)]}
            for name, work in works.items():
                started = time.perf_counter()
                work()
                took[name].append(time.perf_counter() - started)
        for name, values in took.items():
            times[name].append(statistics.mean(values))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first warms up
    counted = [clip for (_, seed), clip in replay.clips.items() if seed]
    passes = statistics.mean(1 + len(clip) for clip in counted)
    places = statistics.mean(sum(len(held[0]) for held in clip) for clip in counted)
    best: dict[bool, float] = {}  # of transformers, in bfloat16 or not
    for name, value in medians.items():
        if name.startswith("transformers"):
            half = name.endswith("bfloat16")
            best[half] = min(value, best.get(half, math.inf))
    print(f"{options.size}: {SIZES[options.size]}, {CODES} codes, {torch.get_num_threads()} threads")
    for name, value in medians.items():
        rival = best.get(name.endswith("bfloat16"))
        ratio = "" if rival is None else f"{rival / value:8.2f} x the best of transformers"
        taken = f"  ({passes:.1f} passes, {places:.0f} places)" if name.startswith("ours, parallel") else ""
        print(f"{name:<44}{value:9.3f} s{CODES / value:9.0f} codes/s{ratio}{taken}")
    for name in absent:
        print(f"{name}: not installed, not timed")
    report = {"benchmark": "peers", "size": options.size, "seconds": medians}
    print(json.dumps(report | {"passes": passes, "places": places}))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
