"""How many codes a pass should look at: passes and seconds of the same clips with every window.

    python benchmarks/windows.py --seeds 2
    python benchmarks/windows.py --batch 8 --windows 1 8 12 16 20 24 --rounds 3

Eight sentences, each alone or all in one call, with as many seeds; the windows run in turn, and their codes
are compared with those of the first window. Passes are means over all clips (of a batch, those of its slowest
clip), seconds medians over the rounds of the mean of a call, texts and developing included. "own" is the
window that is taken unless one is asked for. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from generate import CASES, PROMPTS, seconds  # beside this file

from kinolenta.clip import Clip
from kinolenta.errors import KinolentaError
from kinolenta.pipeline import VideoPipeline
from kinolenta.transformer.window import MAX_WINDOW

OWN = 0  # in place of a window: none is asked for


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare windows of parallel decoding.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 16, 20, 24, 28, 32, 40, 48, 64])
    parser.add_argument("--batch", type=int, choices=(1, len(PROMPTS)), default=1, help="sentences a call")
    parser.add_argument("--seeds", type=int, default=1, help="of each sentence (1)")
    parser.add_argument("--rounds", type=int, default=2, help="timed ones, after one that warms up (2)")
    options = parser.parse_args()
    if min(options.seeds, options.rounds) < 1:
        parser.error("--seeds and --rounds must be 1 or more.")
    if not all(1 <= window <= MAX_WINDOW for window in options.windows):
        parser.error(f"windows lie in 1..{MAX_WINDOW}.")
    return options


def compare(pipe: VideoPipeline, case: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each window. Exits if codes differ."""
    windows = [*options.windows, OWN]
    calls = [
        (list(PROMPTS[i : i + options.batch]), seed)
        for i in range(0, len(PROMPTS), options.batch)
        for seed in range(options.seeds)
    ]
    times: dict[int, list[float]] = {window: [] for window in windows}
    passes: dict[int, list[int]] = {window: [] for window in windows}
    first: dict[int, list[Clip]] = {}  # clips of the first window, by the number of the call
    for number in tqdm(range(options.rounds + 1), desc=case, file=sys.stderr):
        for window in windows:
            took = 0.0
            for call, (prompts, seed) in enumerate(calls):
                settings = CASES[case] | ({} if window == OWN else {"window": window})
                one, clips = seconds(partial(pipe, prompts, seed=seed, **settings))
                took += one
                passes[window].append(clips[0].passes)
                for clip, other in zip(clips, first.setdefault(call, clips), strict=True):
                    if not np.array_equal(clip.codes, other.codes):
                        raise SystemExit(f"codes of {clip.prompt!r} differ with window {window or 'own'}.")
            if number:
                times[window].append(took / len(calls))
    codes = first[0][0].codes.size
    rows = []
    for window in windows:
        mean, median = statistics.mean(passes[window]), statistics.median(times[window])
        row = {"case": case, "window": window or "own", "batch": options.batch, "passes": round(mean, 1)}
        row |= {"codes_a_pass": round(codes / mean, 2), "seconds": round(median, 4)}
        row |= {"times_first": round(statistics.median(times[windows[0]]) / median, 2)}
        rows.append(row)
    return rows


def main() -> None:
    options = parse()
    try:
        pipe = VideoPipeline.from_pretrained(options.model)
    except KinolentaError as error:
        raise SystemExit(f"error: {error}") from error
    facts = {"model": str(options.model or "demo"), "batch": options.batch, "seeds": options.seeds}
    facts |= {"rounds": options.rounds, "threads": torch.get_num_threads()}
    print(
        f"{len(PROMPTS)} sentences, {options.batch} a call, seeds {options.seeds}, {facts['threads']} threads"
    )
    first = f"x window {options.windows[0]}"
    print(f"{'case':<14}{'window':>7}{'passes':>9}{'codes a pass':>14}{'s a call':>10}{first:>14}")
    table = []
    for case in CASES:
        for row in compare(pipe, case, options):
            table.append(row)
            print(
                f"{case:<14}{row['window']:>7}{row['passes']:>9}{row['codes_a_pass']:>14}"
                f"{row['seconds']:>10.3f}{row['times_first']:>14.2f}",
                flush=True,
            )
    facts |= {"torch": torch.__version__, "machine": platform.machine()}
    print(json.dumps({"benchmark": "windows", **facts, "rows": table}))


if __name__ == "__main__":
    main()
