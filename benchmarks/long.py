"""Clips longer than trained: is the thing still there, and its background, and does it still move?

    python benchmarks/long.py --clips 100 --acts 8

The first act (17 frames) of held-out scenes is rendered and given; the model goes on from it for so many acts
in all, of 16 frames each. Every act is then looked at: is the thing there (``kinolenta.evaluation.lasting``),
what background and what motion does the judge see. Beside the generated clips stand real renderings through
the VQGAN, the ceiling, and those of other scenes, the floor. Then the peak memory of streams of one act and
of four is measured, each in a process of its own. The last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from kinolenta.data.fetch import cache_dir
from kinolenta.data.motion import ACT_FRAMES
from kinolenta.data.render import render
from kinolenta.data.scene import Scene
from kinolenta.data.sprites import SpriteBank
from kinolenta.evaluation.judge import Judge
from kinolenta.evaluation.lasting import acts, kept, thing
from kinolenta.evaluation.quality import Share, held_out, shuffled
from kinolenta.evaluation.sheet import contact_sheet
from kinolenta.pipeline import VideoPipeline
from kinolenta.pixels import to_uint8
from kinolenta.transformer import SamplingConfig, SlidingGeneration

BATCH = 10
GOES_ON = ("left", "right", "up", "down", "rotate_cw", "rotate_ccw", "bounce", "swing", "still")
SHEET_CLIPS = 12


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what long clips keep.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--split", default="T1", choices=("dev", "T1", "T2", "T4"))
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--acts", type=int, default=8, help="acts of 16 frames, the given one too (8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="PNG of the first clips")
    parser.add_argument("--font", type=Path, help="TrueType font with Cyrillic letters, for the sheet")
    parser.add_argument("--memory-of", type=int, help="frames of one stream whose peak memory is printed")
    return parser.parse_args()


def continued(
    pipe: VideoPipeline, texts: list[str], begun: np.ndarray, num_frames: int, seed: int
) -> np.ndarray:
    """What ``pipe(text, video=begun[i], num_frames=num_frames, seed=seed + i)`` shows, all side by side."""
    own, latent = pipe.index.defaults, pipe.decoder.config.num_latent_frames
    generation = SlidingGeneration(
        pipe.transformer,
        [pipe.tokenizer.encode(text) for text in texts],
        seeds=[seed + i for i in range(len(texts))],
        known_codes=torch.stack([pipe.encode(frames) for frames in begun]),
        num_latent_frames=latent(num_frames),
        sampling=SamplingConfig(temperature=own.temperature, top_k=own.top_k, top_p=own.top_p),
        guidance_scale=own.guidance_scale,
        guided_latent_frames=None if own.guidance_frames is None else latent(own.guidance_frames),
    )
    for _ in generation.frames():
        pass
    return to_uint8(pipe.decoder.decode(generation.result().codes))


def look(name: str, clips: np.ndarray, scenes: list[Scene], wanted: list[Any], judge: Judge) -> list[Any]:
    """For every act: how many clips keep the thing, the background, both; how many still move as they
    should.
    """
    rows = []
    split = [acts(frames) for frames in clips]
    for act in range(len(split[0])):
        frames = np.stack([pieces[act] for pieces in split])
        verdicts = judge(frames)
        things = [
            kept(thing(piece, scene), want[act])
            for piece, scene, want in zip(frames, scenes, wanted, strict=True)
        ]
        grounds = [seen == scene.background for seen, scene in zip(verdicts.backgrounds, scenes, strict=True)]
        moves = [
            seen == scene.motion
            for seen, scene in zip(verdicts.motions, scenes, strict=True)
            if scene.motion in GOES_ON
        ]
        both = [one and other for one, other in zip(things, grounds, strict=True)]
        rows.append([Share(sum(values), len(values)) for values in (things, grounds, both, moves)])
    print(f"\n{name:<24}" + "".join(f"{f'{1 + 16 * (act + 1)}':>8}" for act in range(len(rows))))
    for column, what in enumerate(("thing", "background", "both", "motion")):
        print(f"  {what:<22}" + "".join(f"{100 * row[column].value:8.1f}" for row in rows))
    names = ("thing", "background", "both", "motion")
    return [{what: share.to_dict() for what, share in zip(names, row, strict=True)} for row in rows]


def peak_memory(options: argparse.Namespace, num_frames: int) -> float:
    """Megabytes at the peak of a process that streams a clip of so many frames."""
    command = [sys.executable, __file__, "--memory-of", str(num_frames)]
    command += [] if options.model is None else ["--model", str(options.model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def stream_once(options: argparse.Namespace) -> None:
    pipe = VideoPipeline.from_pretrained(options.model)
    for _ in pipe.stream("рыжая кошка бежит вправо по траве", num_frames=options.memory_of):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    options = parse()
    if options.memory_of is not None:
        stream_once(options)
        return
    pipe, judge, bank = (
        VideoPipeline.from_pretrained(options.model),
        Judge.load(),
        SpriteBank.load(cache_dir()),
    )
    scenes, captions = held_out(options.clips, split=options.split, seed=options.seed)
    num_frames = 1 + (ACT_FRAMES - 1) * options.acts
    real = np.stack([render(scene, bank, size=pipe.height, num_frames=num_frames) for scene in scenes])
    coded = np.stack([pipe.reconstruct(frames) for frames in tqdm(real, desc="coding", file=sys.stderr)])
    made: list[np.ndarray] = []
    for start in tqdm(range(0, options.clips, BATCH), desc="going on", file=sys.stderr):
        some, begun = slice(start, start + BATCH), real[start : start + BATCH, :ACT_FRAMES]
        made += list(continued(pipe, captions[some], begun, num_frames, options.seed + start))
    wanted = [
        [thing(piece, scene) for piece in acts(frames)] for frames, scene in zip(real, scenes, strict=True)
    ]
    others = [scenes.index(scene) for scene in shuffled(scenes, options.seed)]
    print(
        f"long clips  |  {options.clips} of {options.split}, seed {options.seed}, torch {torch.__version__}"
    )
    print("% of clips that keep it, by the last frame of the act; motion: of those that do not end")
    tables = {
        "real, through the VQGAN": look("real, through the VQGAN", coded, scenes, wanted, judge),
        "generated": look("generated", np.stack(made), scenes, wanted, judge),
        "other scenes": look("other scenes", coded[others], scenes, wanted, judge),
    }
    memory = {frames: peak_memory(options, frames) for frames in (ACT_FRAMES, 1 + 4 * (ACT_FRAMES - 1))}
    short, long = memory.values()
    print(
        f"\npeak memory of a stream: {short:.0f} MB of 17 frames, {long:.0f} MB of 65 ({long / short:.3f} x)"
    )
    if options.sheet is not None:
        contact_sheet(options.sheet, np.stack(made[:SHEET_CLIPS]), captions[:SHEET_CLIPS], options.font)
    print(json.dumps({"benchmark": "long", "clips": options.clips, "acts": tables, "peak_mb": memory}))


if __name__ == "__main__":
    main()
