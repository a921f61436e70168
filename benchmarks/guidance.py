"""What guidance is worth, and for how long it has to lead: the same captions under several settings.

    python benchmarks/guidance.py --settings 1 2:1 2:5 2:17 --clips 100 --seeds 2

A setting is a scale, and behind a colon how many frames it leads (all of them without). Of every clip of a
held-out caption three things are asked, as in best_of.py: are motion and background the caption's, by the
judge, and does the thing cover about as much and have about the colour that a rendering of the scene has?
The last column is how many more clips have all three right than under the first setting, with a 95 % interval
by bootstrap over the captions, for they and their seeds are the same. The last line is JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from best_of import factors  # beside this file
from quality import real_clips

from kinolenta.errors import KinolentaError
from kinolenta.evaluation.judge import Judge
from kinolenta.evaluation.quality import held_out
from kinolenta.evaluation.retrieval import bootstrap
from kinolenta.pipeline import VideoPipeline
from kinolenta.request import MAX_BATCH

FACTORS = ("motion", "background", "thing")


def setting(text: str) -> dict[str, Any]:
    """Options of a pipeline from "scale" or "scale:frames"; None frames are all of them."""
    scale, _, frames = text.partition(":")
    try:
        return {"guidance_scale": float(scale), "guidance_frames": int(frames) if frames else None}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not SCALE or SCALE:FRAMES, such as 2:5") from error


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare settings of guidance.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument(
        "--settings", nargs="+", type=setting, default=[setting(text) for text in ("1", "2:1", "2:5", "2:17")]
    )
    parser.add_argument("--split", default="T1", choices=("dev", "T1", "T2", "T4"))
    parser.add_argument("--clips", type=int, default=100, help="captions (100)")
    parser.add_argument("--seeds", type=int, default=2, help="clips of each (2)")
    parser.add_argument("--seed", type=int, default=1, help="of the captions")
    options = parser.parse_args()
    if min(options.clips, options.seeds) < 1:
        parser.error("--clips and --seeds must be 1 or more.")
    return options


def main() -> None:
    options = parse()
    try:
        pipe, judge = VideoPipeline.from_pretrained(options.model), Judge.load()
        scenes, captions = held_out(options.clips, split=options.split, seed=options.seed)
        renderings = real_clips(scenes, pipe.height)
        print(f"{options.clips} captions of {options.split}, {options.seeds} clips of each; right, %")
        columns = "".join(f"{name:>12}" for name in (*FACTORS, "all three"))
        print(f"{'scale':<7}{'frames':>7}{columns}{'more than the first':>25}")
        table: list[dict[str, Any]] = []
        first: np.ndarray | None = None
        for chosen in options.settings:
            if chosen["guidance_frames"] is None:
                chosen["guidance_frames"] = pipe.num_frames
            right = []
            for number in tqdm(range(0, options.clips * options.seeds, MAX_BATCH), file=sys.stderr):
                clips = range(number, min(number + MAX_BATCH, options.clips * options.seeds))
                prompts = [captions[i % options.clips] for i in clips]
                seeds = [i // options.clips * 1000 + i % options.clips for i in clips]
                made = pipe(prompts, seed=seeds, **chosen)
                for i, clip in zip(clips, made, strict=True):
                    scene, rendering = scenes[i % options.clips], renderings[i % options.clips]
                    right.append(factors(judge, scene, rendering, clip.frames[None])[0])
            verdicts = np.stack(right).reshape(options.seeds, options.clips, len(FACTORS))
            shares = 100 * np.append(verdicts.mean((0, 1)), verdicts.all(2).mean())
            all_three = verdicts.all(2).mean(0)  # of each caption
            first = all_three if first is None else first
            low, high = bootstrap(all_three - first)
            more = f"{100 * (all_three - first).mean():+.1f} [{100 * low:+.1f} {100 * high:+.1f}]"
            print(
                f"{chosen['guidance_scale']:<7g}{chosen['guidance_frames']:>7}"
                + "".join(f"{share:>12.1f}" for share in shares)
                + f"{more:>25}",
                flush=True,
            )
            table.append(chosen | {"right": verdicts.astype(int).tolist()})
    except KinolentaError as error:
        raise SystemExit(f"error: {error}") from error
    facts = {"model": str(options.model or "demo")}
    facts |= {name: getattr(options, name) for name in ("split", "clips", "seeds", "seed")}
    print(json.dumps({"benchmark": "guidance", **facts, "rows": table}))


if __name__ == "__main__":
    main()
