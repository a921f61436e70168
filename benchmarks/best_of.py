"""What choosing among candidates is worth: the best of several clips by the model's own scores.

    python benchmarks/best_of.py --prompts 200 --best-of 8 --guidance-scale 1

Held-out captions become several clips each. Of every clip three things are asked: whether motion and
background are those of the caption (the judge's word), and whether the thing covers as much and has about the
colour that it has in a rendering of the scene (``kinolenta.evaluation.lasting``); the all-factors score is
the share of the three that is right. Compared with a candidate at random: the one with the highest
log p(text | clip), which ``best_of`` takes, and the one with the highest gain, log p(clip | text) -
log p(clip); intervals by bootstrap over captions. The last line is JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from quality import real_clips  # beside this file

from kinolenta.clip import Clip
from kinolenta.data.scene import Scene
from kinolenta.evaluation.judge import Judge
from kinolenta.evaluation.lasting import kept, thing
from kinolenta.evaluation.quality import held_out
from kinolenta.evaluation.retrieval import bootstrap
from kinolenta.pipeline import VideoPipeline


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what choosing among candidates is worth.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--split", default="T1", choices=("dev", "T1", "T2", "T4"))
    parser.add_argument("--prompts", type=int, default=50, help="captions to draw candidates for (50)")
    parser.add_argument("--best-of", type=int, default=8, help="candidates of each (8)")
    parser.add_argument("--guidance-scale", type=float, help="the model's own unless given; 1 is none")
    parser.add_argument(
        "--guidance-frames", type=int, help="that guidance leads; the model's own unless given"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.best_of < 2:
        parser.error("--best-of must be 2 or more: there is nothing to choose from one.")
    return options


def main() -> None:
    options = parse()
    pipe, judge = VideoPipeline.from_pretrained(options.model), Judge.load()
    scenes, captions = held_out(options.prompts, split=options.split, seed=options.seed)
    renderings = real_clips(scenes, pipe.height)
    right: list[np.ndarray] = []
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
            guidance_frames=options.guidance_frames,
            scorer=look,
        )
        right.append(factors(judge, scene, renderings[number], np.stack([clip.frames for clip in clips])))
        scores["text"].append([clip.text_log_prob or 0.0 for clip in clips])
        scores["gain"].append([clip.score or 0.0 for clip in clips])
    verdicts, arrays = np.stack(right), {name: np.array(rows) for name, rows in scores.items()}
    found = {name: compared(values, arrays) for name, values in measures(verdicts).items()}
    own = pipe.index.defaults
    scale = own.guidance_scale if options.guidance_scale is None else options.guidance_scale
    led = own.guidance_frames if options.guidance_frames is None else options.guidance_frames
    print(
        f"best of {options.best_of}  |  {options.prompts} captions of {options.split}, seed {options.seed}, "
        f"guidance {scale:g}, of {'all frames' if led is None else f'{led} frames'}"
    )
    for measure, row in found.items():
        print(f"\n{measure}\n  one at random         {row['any']:7.1%}")
        for name in scores:
            more = "{mean:+.1%} [{low:+.1%} {high:+.1%}]".format(**row[name]["more"])
            print(f"  best by {name:<14}{row[name]['best']:7.1%}   more than one at random {more}")
        print(f"  the best there is     {row['most']:7.1%}")
    facts = {name: getattr(options, name) for name in ("split", "seed", "prompts", "best_of")}
    facts["guidance_scale"], facts["guidance_frames"] = scale, led
    raw = {"factors": verdicts.astype(int).tolist(), **scores}
    print(json.dumps({"benchmark": "best_of", **facts, "measures": found, "raw": raw}))


def factors(judge: Judge, scene: Scene, rendering: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Whether motion, background and thing are right, bool [clips, 3]; frames uint8 [clips, t, h, w, 3]."""
    seen, wanted = judge(frames), thing(rendering, scene)
    pairs = zip(seen.motions, seen.backgrounds, frames, strict=True)
    return np.array(
        [
            (motion == scene.motion, background == scene.background, kept(thing(clip, scene), wanted))
            for motion, background, clip in pairs
        ]
    )


def measures(right: np.ndarray) -> dict[str, np.ndarray]:
    """What is made of three verdicts a clip [captions, clips, 3]: numbers in 0..1, [captions, clips]."""
    return {
        "all-factors score": right.mean(2),
        "motion and background": right[..., :2].all(2).astype(float),
        "all three": right.all(2).astype(float),
    }


def compared(worth: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """What clips are worth on average, and what a score's choice gains; arrays [captions, clips]."""
    found: dict[str, Any] = {
        "any": round(float(worth.mean()), 4),
        "most": round(float(worth.max(1).mean()), 4),
    }
    for name, values in scores.items():
        chosen = np.take_along_axis(worth, np.argmax(values, 1)[:, None], 1)[:, 0]
        gain = chosen - worth.mean(1)  # against a candidate at random, which the first is
        low, high = bootstrap(gain)
        more = {"mean": round(float(gain.mean()), 4), "low": round(low, 4), "high": round(high, 4)}
        found[name] = {"best": round(float(chosen.mean()), 4), "more": more}
    return found


if __name__ == "__main__":
    main()
