"""What choosing among candidates is worth: the best of several clips by the model's own scores.

    python benchmarks/best_of.py --prompts 200 --best-of 8 --guidance-scale 1

Held-out captions become several clips each. A judge says of every clip whether motion and background are
both those of the caption. Compared with a candidate at random: the one with the highest log p(text | clip),
which ``best_of`` takes, and the one with the highest gain, log p(clip | text) - log p(clip); intervals by
bootstrap over captions. The last line is JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from kinolenta.clip import Clip
from kinolenta.evaluation.judge import Judge
from kinolenta.evaluation.quality import Share, held_out
from kinolenta.evaluation.retrieval import bootstrap
from kinolenta.pipeline import VideoPipeline


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what choosing among candidates is worth.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--split", default="T1", choices=("dev", "T1", "T2", "T4"))
    parser.add_argument("--prompts", type=int, default=50, help="captions to draw candidates for (50)")
    parser.add_argument("--best-of", type=int, default=8, help="candidates of each (8)")
    parser.add_argument("--guidance-scale", type=float, help="the model's own unless given; 1 is none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse()
    pipe, judge = VideoPipeline.from_pretrained(options.model), Judge.load()
    scenes, captions = held_out(options.prompts, split=options.split, seed=options.seed)
    right: list[list[bool]] = []
    scores: dict[str, list[list[float]]] = {"text": [], "gain": []}
    for number, (scene, text) in enumerate(zip(tqdm(scenes, file=sys.stderr), captions, strict=True)):
        clips: list[Clip] = []

        def look(clip: Clip, clips: list[Clip] = clips) -> float:
            clips.append(clip)
            return 0.0

        pipe(
            text,
            seed=options.seed + number,
            best_of=options.best_of,
            guidance_scale=options.guidance_scale,
            scorer=look,
        )
        seen = judge(np.stack([clip.frames for clip in clips]))
        pairs = zip(seen.motions, seen.backgrounds, strict=True)
        right.append([pair == (scene.motion, scene.background) for pair in pairs])
        scores["text"].append([clip.text_log_prob or 0.0 for clip in clips])
        scores["gain"].append([clip.score or 0.0 for clip in clips])
    found = compared(np.array(right, dtype=float), {name: np.array(rows) for name, rows in scores.items()})
    scale = pipe.index.defaults.guidance_scale if options.guidance_scale is None else options.guidance_scale
    print(
        f"best of {options.best_of}  |  {options.prompts} captions of {options.split}, seed {options.seed}, "
        f"guidance {scale:g}\n\nmotion and background both right"
    )
    print(f"  one at random         {found['any']:7.1%}")
    for name in scores:
        more = "{mean:+.1%} [{low:+.1%} {high:+.1%}]".format(**found[name]["more"])
        print(f"  best by {name:<14}{found[name]['best']['share']:7.1%}   more than one at random {more}")
    print(f"  one of them is right  {found['one of them']:7.1%}")
    raw = {"right": right, **scores}
    facts = {"prompts": options.prompts, "best_of": options.best_of, "guidance_scale": scale}
    print(json.dumps({"benchmark": "best_of", **facts, **found, "raw": raw}))


def compared(right: "np.ndarray", scores: dict[str, "np.ndarray"]) -> dict[str, Any]:
    """Shares of right clips, and what a score's choice gains over one at random; arrays [captions, clips]."""
    found: dict[str, Any] = {
        "first": Share(int(right[:, 0].sum()), len(right)).to_dict(),
        "any": round(float(right.mean()), 4),
        "one of them": round(float(right.max(1).mean()), 4),
    }
    for name, values in scores.items():
        chosen = np.take_along_axis(right, np.argmax(values, 1)[:, None], 1)[:, 0]
        gain = chosen - right.mean(1)  # against a candidate at random, which the first is
        low, high = bootstrap(gain)
        more = {"mean": round(float(gain.mean()), 4), "low": round(low, 4), "high": round(high, 4)}
        found[name] = {"best": Share(int(chosen.sum()), len(right)).to_dict(), "more": more}
    return found


if __name__ == "__main__":
    main()
