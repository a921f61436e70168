"""How often generated clips show what their captions say, judged by a program: see docs/evaluation.md.

    python benchmarks/quality.py --clips 200 --json quality.json --sheet quality.png

Held-out captions (pairs of thing and motion, or thing and background, that no training saw) become clips; the
judge names the motion and the background of each. The same judge sees real renderings of the same captions,
their VQGAN reconstructions, and the generated clips against the captions of others. Then: what the VQGAN
keeps of held-out clips. Tables go to stdout, the last line is JSON; progress goes to stderr. Exit 1 if the
judge cannot be trusted.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # runs in a checkout that is not installed

from kinolenta.data.clips import NUM_FRAMES, ClipSet
from kinolenta.data.fetch import cache_dir
from kinolenta.data.render import render
from kinolenta.data.scene import Scene
from kinolenta.data.sprites import SpriteBank
from kinolenta.data.store import open_store
from kinolenta.errors import DataError, KinolentaError, MediaError
from kinolenta.evaluation.judge import Judge, Verdicts
from kinolenta.evaluation.quality import Coding, Row, check_ceiling, coding, held_out, report, score, shuffled
from kinolenta.evaluation.sheet import contact_sheet
from kinolenta.files import check_writable, write_json
from kinolenta.pipeline import VideoPipeline
from kinolenta.transformer.generate import DECODINGS
from kinolenta.transformer.precision import PRECISIONS

BATCH = 16
SAMPLING = ("guidance_scale", "guidance_frames", "temperature", "top_k", "top_p")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Judge generated clips of held-out captions.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--clips", type=int, default=200, help="captions to judge (200)")
    parser.add_argument(
        "--split", default="T1", choices=("dev", "T1", "T2", "T4"), help="where they come from (T1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of captions; clip i is generated with seed + i")
    parser.add_argument(
        "--guidance-scale", type=float, help="without it and the next four, the model's defaults"
    )
    parser.add_argument("--guidance-frames", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--decoding", choices=DECODINGS, default="parallel")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="to generate with")
    parser.add_argument(
        "--world-clips", type=int, default=128, help="dev clips of the world for the VQGAN (128)"
    )
    parser.add_argument(
        "--film-clips", type=int, default=32, help="dev windows of the film for the VQGAN (32)"
    )
    parser.add_argument("--store", type=Path, help="also a folder of rendered clips for the VQGAN")
    parser.add_argument("--judge", type=Path, help="weights of another judge")
    parser.add_argument("--json", type=Path, help="file for all figures and every single verdict")
    parser.add_argument("--sheet", type=Path, help="PNG of the first 24 generated clips")
    parser.add_argument(
        "--font", type=Path, help="TrueType font with Cyrillic letters, for captions on the sheet"
    )
    return parser.parse_args(arguments)


def real_clips(scenes: list[Scene], size: int) -> np.ndarray:
    """uint8 [n, 17, size, size, 3]: the scenes as they are meant to look."""
    bank = SpriteBank.load(cache_dir())
    drawn = [
        render(scene, bank, size=size, num_frames=NUM_FRAMES)
        for scene in tqdm(scenes, desc="rendering", file=sys.stderr)
    ]
    return np.stack(drawn)


def generated_clips(pipe: VideoPipeline, captions: list[str], options: argparse.Namespace) -> np.ndarray:
    """uint8 [n, 17, size, size, 3]: what the model makes of the captions."""
    sampling = {name: getattr(options, name) for name in SAMPLING if getattr(options, name) is not None}
    frames: list[np.ndarray] = []
    with tqdm(total=len(captions), desc="generating", file=sys.stderr) as bar:
        for start in range(0, len(captions), BATCH):
            prompts = captions[start : start + BATCH]
            seeds = [options.seed + start + i for i in range(len(prompts))]
            frames += [
                clip.frames for clip in pipe(prompts, seed=seeds, decoding=options.decoding, **sampling)
            ]
            bar.update(len(prompts))
    return np.stack(frames)


def vqgan_figures(pipe: VideoPipeline, options: argparse.Namespace) -> dict[str, Coding]:
    """PSNR and codebook use on clips that no stage was trained on."""
    sources: dict[str, Any] = {}
    for name, count, share in (("world", options.world_clips, 0.0), ("film", options.film_clips, 1.0)):
        if count:
            clips = ClipSet(cache_dir(), split="dev", seed=options.seed, film_share=share)
            sources[name] = (count, lambda i, clips=clips: clips.frames(i, pipe.height))
    if options.store:
        store = open_store(options.store)
        sources["store"] = (len(store), store.__getitem__)
    if not sources:
        raise DataError("No clips are left for the VQGAN; give --world-clips, --film-clips or --store.")
    with tqdm(total=sum(count for count, _ in sources.values()), desc="VQGAN", file=sys.stderr) as bar:
        return coding(pipe.decoder, sources, bar.update)


def judged(
    pipe: VideoPipeline, judge: Judge, options: argparse.Namespace
) -> tuple[dict[str, Any], np.ndarray]:
    """All figures with every single verdict under "clips", and the generated clips."""
    scenes, captions = held_out(options.clips, split=options.split, seed=options.seed)
    real = real_clips(scenes, pipe.height)
    ceiling = score("real renderings", judge(real), scenes)
    check_ceiling(ceiling)
    coded = np.stack([pipe.reconstruct(clip) for clip in tqdm(real, desc="reconstructing", file=sys.stderr)])
    rows = [ceiling, score("their VQGAN reconstructions", judge(coded), scenes)]
    frames = generated_clips(pipe, captions, options)
    verdicts = judge(frames)
    rows.append(score("generated", verdicts, scenes))
    rows.append(score("generated, captions shuffled", verdicts, shuffled(scenes, options.seed)))
    figures = report(rows, vqgan_figures(pipe, options), verdicts, scenes)
    print_tables(rows, figures)
    figures["clips"] = [
        {"caption": captions[i], "seed": options.seed + i, "noun": scene.noun, "style": scene.style,
         "motion": scene.motion, "background": scene.background, "seen_motion": verdicts.motions[i],
         "seen_background": verdicts.backgrounds[i]}
        for i, scene in enumerate(scenes)
    ]  # fmt: skip
    if options.sheet:
        contact_sheet(
            options.sheet, frames[:24], sheet_titles(captions, scenes, verdicts, options.font), options.font
        )
    return figures, frames


def sheet_titles(
    captions: list[str], scenes: list[Scene], verdicts: Verdicts, font: Path | None
) -> list[str]:
    """What stands over each strip: the caption where there is a font for it, and the verdict where it is
    wrong."""
    titles = []
    for i, scene in enumerate(scenes[:24]):
        title = f"{i + 1}. " + (captions[i] if font else f"{scene.motion}, {scene.background}")
        wrong = [
            seen
            for seen, meant in (
                (verdicts.motions[i], scene.motion),
                (verdicts.backgrounds[i], scene.background),
            )
            if seen != meant
        ]
        titles.append(title + (f"   (seen: {', '.join(wrong)})" if wrong else ""))
    return titles


def print_tables(rows: list[Row], figures: dict[str, Any]) -> None:
    print(f"{'share right, % [95 % interval]':32s}{'motion':>21s}{'background':>21s}{'both':>21s}")
    for row in rows:
        print(f"{row.name:32s}{row.motion!s:>21s}{row.background!s:>21s}{row.both!s:>21s}")
    print(f"\n{'VQGAN on held-out clips':32s}{'clips':>9s}{'PSNR dB':>10s}{'codes in use %':>16s}")
    for name, one in figures["vqgan"].items():
        print(f"{name:32s}{one['clips']:9d}{one['psnr_db']:10.2f}{100 * one['codes_used']:16.1f}")
    print("\ngenerated clips: asked for, right of all, and what else was seen")
    for motion, seen in figures["confusion"]["motion"].items():
        others = ", ".join(f"{name} {count}" for name, count in seen.items() if name != motion)
        print(f"  {motion:12s}{seen.get(motion, 0):4d} of {sum(seen.values()):3d}   {others}")
    print("\ngoals")
    for name, goal in figures["goals"].items():
        print(f"  {name:12s}wanted {goal['wanted']:7.2f}   reached {goal['reached']:7.2f}   "
              f"{'met' if goal['met'] else 'NOT met'}")  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        for path in (options.json, options.sheet):
            if path is not None:
                check_writable(path, MediaError, overwrite=True)
        judge = Judge.load(options.judge)
        pipe = VideoPipeline.from_pretrained(options.model, precision=options.precision)
        setting = {
            "benchmark": "quality", "model": str(options.model or "demo"), "split": options.split,
            "num_clips": options.clips, "seed": options.seed,
            "sampling": {name: getattr(options, name) for name in SAMPLING}, "decoding": options.decoding,
            "precision": options.precision,
            "torch": torch.__version__, "machine": platform.machine(), "threads": torch.get_num_threads(),
        }  # fmt: skip
        print(f"quality  |  {setting['model']}  {options.split}  {options.clips} clips  seed {options.seed}  "
              f"torch {torch.__version__}\n")  # fmt: skip
        figures, _ = judged(pipe, judge, options)
        if options.json:
            write_json(options.json, setting | figures, MediaError)
    except KinolentaError as error:
        print(error, file=sys.stderr)
        return 1
    single = figures.pop("clips")
    assert len(single) == options.clips
    print("\n" + json.dumps(setting | figures, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
