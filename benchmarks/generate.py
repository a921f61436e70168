"""How long clips take, decoded in parallel and one code at a time, with the model loaded.

    python benchmarks/generate.py --runs 12 --json generate.json
    python benchmarks/generate.py --size large --runs 3

Each run generates the same sentence with every decoding, in turn, so that a slow moment hits all of them.
Nothing is timed that disagrees: parallel and sequential codes are compared for every clip. Medians with 20th
and 80th percentiles over the runs; the shares are those of the largest arithmetic rate and read bandwidth
that this machine reached in the same run. With ``--size`` the demo's transformer is another one of that size
with random weights: its clips are noise, and how many passes they take is not what a trained one would need,
so read the time of a pass. Seconds are of the whole call, texts and developing included; the shares count the
windows of codes alone. The last line is JSON.
"""

import argparse
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from shapes import SIZES, shaped  # beside this file

from kinolenta.clip import Clip
from kinolenta.errors import KinolentaError
from kinolenta.files import check_writable, write_json
from kinolenta.pipeline import VideoPipeline
from kinolenta.transformer import GPT, decoding
from kinolenta.transformer.cache import KVCache
from kinolenta.transformer.precision import PRECISIONS
from kinolenta.transformer.stable import StableProduct

PROMPTS = (
    "рыжая кошка бежит вправо по траве",
    "синий автомобиль едет влево по песку",
    "ракета летит вверх в ночном небе",
    "дельфин плывет вправо в море",
    "звезда растет на черном фоне",
    "мяч прыгает на зеленом фоне",
    "красное яблоко исчезает на белом фоне",
    "собака подпрыгивает на снегу",
)
CASES: dict[str, dict[str, Any]] = {
    "guided": {"guidance_frames": 17},
    "first frames": {"guidance_frames": 5},  # guided, two latent ones
    "unguided": {"guidance_scale": 1.0},
}
DECODINGS: dict[str, dict[str, Any]] = {
    "sequential": {"decoding": "sequential"},
    "parallel": {},
    "parallel, 64": {"window": 64},
    "preview": {"decoding": "preview"},
}
OTHERS = PRECISIONS[1:]
ROUNDED = {f"{name}, {kind}": DECODINGS[name] for kind in OTHERS for name in ("sequential", "parallel")}
EQUAL = (
    ("sequential", "parallel", "parallel, 64"),
    *((f"sequential, {kind}", f"parallel, {kind}") for kind in OTHERS),
)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def spread(values: list[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, (20, 50, 80))
    return {"seconds": round(float(median), 4), "p20": round(float(low), 4), "p80": round(float(high), 4)}


def ceilings() -> dict[str, float]:
    """Best of several: float32 operations a second in a matrix product, bytes a second read by a sum."""
    a, b, flat = torch.randn(2048, 2048), torch.randn(2048, 2048), torch.randn(1 << 26)
    laid_out = StableProduct(b)
    product = min(seconds(work)[0] for work in (lambda: a @ b, lambda: laid_out(a)) for _ in range(8))
    read = min(seconds(lambda: flat.sum())[0] for _ in range(8))
    return {"flops": 2 * 2048**3 / product, "bytes": 4 * flat.numel() / read}


class Places:
    """Counts the places that all passes look at, with guidance twice."""

    def __init__(self) -> None:
        self.count, run = 0, decoding.decode_window

        def counted(model: GPT, cache: KVCache, starts: Sequence[int], n: int) -> Tensor:
            self.count += n * len(cache.pad)
            return run(model, cache, starts, n)

        decoding.decode_window = counted

    def taken(self) -> int:
        """How many there were since the last time."""
        taken, self.count = self.count, 0
        return taken


class Timed(NamedTuple):
    seconds: float
    places: int
    clips: list[Clip]


def compare(
    pipe: VideoPipeline, rounded: dict[str, VideoPipeline], runs: int, case: str, batch: int, places: Places
) -> dict[str, list[Timed]]:
    """Every run of each decoding; the runs of the decodings follow one another."""
    calls = {name: partial(pipe, **options) for name, options in DECODINGS.items()}
    for kind, other in rounded.items():
        calls |= {name: partial(other, **ROUNDED[name]) for name in ROUNDED if name.endswith(kind)}
    timed: dict[str, list[Timed]] = {name: [] for name in calls}
    for run in tqdm(range(runs + 1), desc=f"{case}, batch {batch}", file=sys.stderr):
        prompts = [PROMPTS[(run + i) % len(PROMPTS)] for i in range(batch)]
        made: dict[str, list[Clip]] = {}
        for name, call in calls.items():
            seeds = [run * batch + i for i in range(batch)]
            took, made[name] = seconds(partial(call, prompts, seed=seeds, **CASES[case]))
            one = Timed(took, places.taken(), made[name])
            if run:  # the first is a warm-up
                timed[name].append(one)
        for slow, *fast in EQUAL:
            for name in (name for name in fast if name in made):
                for one, other in zip(made[slow], made[name], strict=True):
                    if not np.array_equal(one.codes, other.codes):
                        raise SystemExit(
                            f"codes of {one.prompt!r} differ: {slow} and {name}; nothing is timed."
                        )
    return timed


def rows(
    pipe: VideoPipeline, timed: dict[str, list[Timed]], case: str, batch: int, limit: dict[str, float]
) -> list[dict[str, Any]]:
    """The table's rows; the shares count the weights alone: read once a pass, multiplied at every place."""
    network = pipe.transformer
    weights = sum(block.numel() for block in network.blocks.parameters()) + network.code_head.own.numel()
    found = []
    for name, runs in timed.items():
        passes = statistics.mean(run.clips[0].passes for run in runs)
        operations = 2 * weights * statistics.mean(run.places for run in runs)
        row = {"case": case, "decoding": name, "batch": batch, **spread([run.seconds for run in runs])}
        row |= {
            "passes": round(passes, 1),
            "ms_a_pass": round(1000 * row["seconds"] / passes, 2),
            "codes_a_second": round(batch * runs[0].clips[0].codes.size / row["seconds"]),
        }
        if name in DECODINGS:  # the ceilings are of float32
            row |= {
                "of_bandwidth": round(4 * weights * passes / row["seconds"] / limit["bytes"], 3),
                "of_arithmetic": round(operations / row["seconds"] / limit["flops"], 3),
            }
        found.append(row)
    return found


def share(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.1%}" if name in row else "-"


def film(pipe: VideoPipeline, runs: int) -> dict[str, Any]:
    """From text to a saved mp4; what developing takes of it; and when a stream shows its first frame."""
    whole, developing, first = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs + 1):
            prompt, path = PROMPTS[run % len(PROMPTS)], Path(folder) / f"{run}.mp4"
            took, clip = seconds(partial(pipe, prompt, seed=run))
            saved, _ = seconds(partial(clip.save, path))
            codes = torch.from_numpy(clip.codes)[None]
            developed, _ = seconds(partial(pipe.decoder.decode, codes))
            shown, _ = seconds(partial(next, pipe.stream(prompt, seed=run)))
            whole.append(took + saved)
            developing.append(developed)
            first.append(shown)
    figures = spread(whole[1:])
    return {
        "text_to_mp4": figures,
        "film_seconds": round(clip.duration_s, 3),
        "developing_share": round(statistics.median(developing[1:]) / figures["seconds"], 4),
        "first_frame": spread(first[1:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time generation.")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    model.add_argument("--size", choices=SIZES, help="the demo with such a transformer, of random weights")
    parser.add_argument(
        "--precision", choices=OTHERS, nargs="+", default=[], help="beside float32; int8 needs a C++ compiler"
    )
    parser.add_argument("--runs", type=int, default=12, help="timed runs a case (12); a third at batch 8")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be 1 or more.")
    try:
        if options.json:
            check_writable(options.json, KinolentaError, overwrite=True)
        pipe = VideoPipeline.from_pretrained(options.model)
        network = pipe.transformer
        if options.size:
            network = shaped(network.config, options.size)
        pipe, *others = (
            VideoPipeline(pipe.tokenizer, network, pipe.decoder, pipe.index, precision=kind)
            for kind in ("float32", *options.precision)
        )
        rounded = dict(zip(options.precision, others, strict=True))
    except KinolentaError as error:
        raise SystemExit(f"error: {error}") from error
    limit, places = ceilings(), Places()
    facts = {
        "transformer": options.size or str(options.model or "demo"),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    print(f"generation of {facts['transformer']}  |  CPU, {facts['threads']} threads  torch {facts['torch']}")
    print(f"ceilings: {limit['flops'] / 1e9:.0f} GFLOP/s, {limit['bytes'] / 1e9:.1f} GB/s read\n")
    print(
        f"{'case':<14}{'decoding':<22}{'batch':>5}{'s a call':>10}{'[p20':>9}{'p80]':>9}{'passes':>8}"
        f"{'ms a pass':>11}{'codes/s':>9}{'x sequential':>14}{'of bandwidth':>14}{'of arithmetic':>15}"
    )
    table = []
    for case in CASES:
        for batch, runs in ((1, options.runs), (8, max(2, options.runs // 3))):
            for row in rows(pipe, compare(pipe, rounded, runs, case, batch, places), case, batch, limit):
                first = next((other for other in table if other["case"] == case), row)
                row["times_sequential"] = round(first["seconds"] / (row["seconds"] / batch), 2)
                table.append(row)
                shares = (share(row, "of_bandwidth"), share(row, "of_arithmetic"))
                print(
                    f"{case:<14}{row['decoding']:<22}{batch:>5}{row['seconds']:>10.3f}{row['p20']:>9.3f}"
                    f"{row['p80']:>9.3f}{row['passes']:>8}{row['ms_a_pass']:>11.2f}"
                    f"{row['codes_a_second']:>9}{row['times_sequential']:>14.2f}{shares[0]:>14}{shares[1]:>15}",
                    flush=True,
                )
    whole = film(pipe, options.runs)
    print(
        f"\ntext to saved mp4 {whole['text_to_mp4']['seconds']:.2f} s for {whole['film_seconds']} s of film; "
        f"developing is {whole['developing_share']:.1%} of it; first frame of a stream after "
        f"{whole['first_frame']['seconds']:.2f} s"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory {peak / 2**20:.0f} MiB")
    report = {"benchmark": "generate", **facts, "ceilings": limit, "rows": table, **whole, "peak_bytes": peak}
    if options.json:
        write_json(options.json, report, KinolentaError)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
