"""Every kind of prompt on the grid: what is given, what comes of it, and whether the given part is kept.

    python benchmarks/prompts.py --clips 20 --sheets docs/images --font DejaVuSans.ttf

Held-out scenes are rendered, and a part of each is given together with its caption. Of every clip it is
counted how many of the given codes it holds (all, or the script stops), and the judge says whether motion and
background are those of the scene. "nothing" gives no caption either, so its shares are those of chance. A
sheet per kind shows the first four: what was given, grey where nothing was, and the clip beside it. Then a
single frame of each caption. The last line is JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from quality import real_clips  # beside this file

from kinolenta.evaluation.judge import Judge
from kinolenta.evaluation.quality import held_out, score
from kinolenta.evaluation.sheet import contact_sheet
from kinolenta.grid import GridPrompts
from kinolenta.pipeline import VideoPipeline

SHOWN = 4
GREY = 200
NONE: dict[str, Any] = dict.fromkeys(
    ("image", "rows", "last_image", "keyframes", "video", "video_frames", "border")
)
KINDS = {
    "first frame": lambda frames: {"image": frames[0]},
    "top rows": lambda frames: {"image": frames[0], "rows": 4},
    "first frames": lambda frames: {"video": frames, "video_frames": 5},
    "last frame": lambda frames: {"last_image": frames[16]},
    "both ends": lambda frames: {"image": frames[0], "last_image": frames[16]},
    "key frame": lambda frames: {"keyframes": {8: frames[8]}},
    "rim": lambda frames: {"video": frames, "border": 2},
    "nothing": lambda frames: {},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Try every kind of prompt.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--split", default="T1", choices=("dev", "T1", "T2", "T4"))
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", type=Path, help="folder for a PNG of each kind")
    parser.add_argument("--font", type=Path, help="TrueType font with Cyrillic letters, for the sheets")
    return parser.parse_args()


def main() -> None:
    options = parse()
    pipe, judge = VideoPipeline.from_pretrained(options.model), Judge.load()
    scenes, captions = held_out(options.clips, split=options.split, seed=options.seed)
    real = real_clips(scenes, pipe.height)
    prompts = GridPrompts(
        pipe.encode,
        (pipe.height, pipe.width),
        fps=pipe.fps,
        time_stride=pipe.time_stride,
        space_stride=pipe.decoder.config.space_stride,
    )
    print(f"prompts  |  {options.clips} of {options.split}, seed {options.seed}, torch {torch.__version__}\n")
    print(f"{'given':<16}{'codes given':>12}{'kept':>8}   motion, %             background, %")
    table = {}
    for kind, part_of in KINDS.items():
        made, shown, titles, given_codes = [], [], [], 0
        for number, (frames, text) in enumerate(
            zip(tqdm(real, desc=kind, file=sys.stderr), captions, strict=True)
        ):
            part = part_of(frames)
            clip = pipe(None if kind == "nothing" else text, seed=options.seed + number, **part)
            made.append(clip.frames)
            prompt = prompts.of(**(NONE | part), num_frames=len(frames), policy="cover")
            seen = np.full(frames.shape, GREY, np.uint8)
            if prompt is not None:
                codes = torch.from_numpy(clip.codes[: len(prompt.given)])
                if not torch.equal(codes[prompt.given], prompt.codes[prompt.given]):
                    raise SystemExit(f"{kind}: clip {number} does not hold the codes that were given.")
                given_codes += int(prompt.given.sum())
                seen = prompt.keep(seen)
            shown += [seen, clip.frames]
            titles += [f"{kind}:", "" if kind == "nothing" else text]
        row = score(kind, judge(np.stack(made)), scenes)
        table[kind] = {"codes": given_codes, **row.to_dict()}
        print(
            f"{kind:<16}{given_codes:>12}{'all' if given_codes else '-':>8}   {row.motion}   {row.background}"
        )
        if options.sheets is not None:
            options.sheets.mkdir(parents=True, exist_ok=True)
            path = options.sheets / f"prompt_{kind.replace(' ', '_')}.png"
            contact_sheet(path, np.stack(shown[: 2 * SHOWN]), titles[: 2 * SHOWN], options.font)
    pictures = np.stack([clip.frames for clip in pipe(captions, num_frames=1, seed=options.seed)])
    ground = score("picture", judge(np.repeat(pictures, len(real[0]), 1)), scenes).background
    print(f"\na single frame, shown to the judge as a clip in which nothing moves: background {ground}")
    if options.sheets is not None:
        path = options.sheets / "prompt_picture.png"
        contact_sheet(path, pictures[: 2 * SHOWN], captions[: 2 * SHOWN], options.font)
    facts = {"clips": options.clips, "kinds": table, "picture": {"background": ground.to_dict()}}
    print(json.dumps({"benchmark": "prompts", **facts}))


if __name__ == "__main__":
    main()
