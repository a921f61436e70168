"""Whether parallel decoding draws the codes of sequential decoding: clip by clip, code by code.

    python benchmarks/exactness.py --clips 500

Sentences times seeds; the size of a batch, guidance, its frames and other options change from batch to batch,
every fourth clip is also drawn alone. Exit 1 if a single code or log-probability differs. The last line is
JSON.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from generate import PROMPTS  # beside this file

from kinolenta.errors import KinolentaError
from kinolenta.pipeline import VideoPipeline
from kinolenta.request import MAX_BATCH
from kinolenta.transformer.precision import PRECISIONS

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"guidance_scale": 1.0},
    {"guidance_frames": 1, "temperature": 0.8},
    {"guidance_scale": 1.0, "top_k": 200},
    {"guidance_frames": 9, "top_p": 0.95},
    {"guidance_scale": 1.0, "temperature": 1.2},
    {"guidance_frames": 17, "guidance_scale": 3.0},
    {"guidance_frames": 13, "image": np.full((64, 64, 3), 90, np.uint8), "rows": 3},  # some codes are given
)
BATCHES = (MAX_BATCH, 3, 8, 5, 12)  # windows depend on it, and grow when guidance ends


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare decodings bit for bit.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    options = parser.parse_args()
    if options.clips < 1:
        parser.error("--clips must be 1 or more.")
    try:
        pipe = VideoPipeline.from_pretrained(options.model, precision=options.precision)
    except KinolentaError as error:
        raise SystemExit(f"error: {error}") from error
    clips = codes = differing = alone = 0
    drawn, bar = 0, tqdm(total=options.clips, file=sys.stderr)
    for settings, batch in zip(itertools.cycle(OPTIONS), itertools.cycle(BATCHES), strict=False):
        seeds = list(range(drawn, min(drawn + batch, options.clips)))
        if not seeds:
            break
        prompts = [PROMPTS[seed % len(PROMPTS)] for seed in seeds]
        slow, fast = (
            pipe(prompts, seed=seeds, decoding=name, **settings) for name in ("sequential", "parallel")
        )
        pairs = list(zip(slow, fast, strict=True))
        for clip in itertools.islice(slow, 0, None, 4):
            pairs.append((clip, pipe(clip.prompt, seed=clip.seed, **settings)))
            alone += 1
        for one, other in pairs:
            clips += 1
            codes += one.codes.size
            differing += int(np.sum(one.codes != other.codes)) + int(one.log_prob != other.log_prob)
        drawn += len(seeds)
        bar.update(len(seeds))
    print(f"{len(PROMPTS)} sentences, {options.clips} clips in batches, {alone} of them also alone")
    print(f"{codes} codes compared, {differing} differ")
    facts = {"precision": options.precision, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(
        json.dumps(
            {"benchmark": "exactness", "comparisons": clips, "codes": codes, "differing": differing, **facts}
        )
    )
    raise SystemExit(differing > 0)


if __name__ == "__main__":
    main()
