"""How long a clip takes from its sentence to its frames, with the model loaded.

    python benchmarks/generate.py --runs 20 --json generate.json

The same sentence is generated again and again, first without being counted. Before anything is timed, two
runs with the same seed must give the same codes and frames. Medians with 20th and 80th percentiles; the last
line is JSON.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from kinolenta.errors import KinolentaError
from kinolenta.files import check_writable, write_json
from kinolenta.pipeline import VideoPipeline

PROMPT = "рыжая кошка бежит вправо по траве"
CASES = (("guided", 3.0), ("unguided", 1.0))


def measure(pipe: VideoPipeline, runs: int) -> list[dict[str, Any]]:
    """One row per case: seconds a clip, milliseconds a pass, and the share that developing takes."""
    rows = []
    for name, scale in CASES:
        first, second = (pipe(PROMPT, guidance_scale=scale) for _ in range(2))
        if not (np.array_equal(first.codes, second.codes) and np.array_equal(first.frames, second.frames)):
            raise SystemExit(f"{name}: two runs with one seed differ; nothing is timed.")
        whole, developing = [], []
        for _ in tqdm(range(runs), desc=name, file=sys.stderr):
            started = time.perf_counter()
            clip = pipe(PROMPT, guidance_scale=scale)
            whole.append(time.perf_counter() - started)
            started = time.perf_counter()
            pipe.decoder.decode(torch.from_numpy(clip.codes)[None])
            developing.append(time.perf_counter() - started)
        low, median, high = np.percentile(whole, (20, 50, 80))
        rows.append(
            {
                "case": name,
                "seconds": round(float(median), 3),
                "p20": round(float(low), 3),
                "p80": round(float(high), 3),
                "passes": clip.passes,
                "ms_a_pass": round(1000 * float(median) / clip.passes, 2),
                "developing_share": round(statistics.median(developing) / float(median), 4),
                "film_seconds": round(clip.duration_s, 3),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Time generation.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--runs", type=int, default=20, help="timed runs a case (20)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    try:
        if options.json:
            check_writable(options.json, KinolentaError, overwrite=True)
        pipe = VideoPipeline.from_pretrained(options.model)
        rows = measure(pipe, options.runs)
    except KinolentaError as error:
        raise SystemExit(f"error: {error}") from error
    facts = {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": platform.machine()}
    print(f"generation  |  CPU, {facts['threads']} threads  torch {facts['torch']}  float32  {PROMPT!r}")
    print(
        f"{'case':<10}{'s a clip':>10}{'[p20':>8}{'p80]':>8}{'passes':>8}{'ms a pass':>11}{'developing':>12}"
    )
    for row in rows:
        print(
            f"{row['case']:<10}{row['seconds']:>10.3f}{row['p20']:>8.3f}{row['p80']:>8.3f}{row['passes']:>8}"
            f"{row['ms_a_pass']:>11.2f}{row['developing_share']:>12.1%}"
        )
    report = {"benchmark": "generate", **facts, "rows": rows}
    if options.json:
        write_json(options.json, report, KinolentaError)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
