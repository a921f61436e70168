"""Training of the judge on real renderings of the train split, and its accuracy on combinations held out.

    python -m kinolenta.evaluation.train_judge      # some minutes of one core; writes judge.safetensors

Deterministic: the same settings on the same machine give the same weights. Clips are disturbed while it
learns (softness, noise, flicker, blocks, tints), so that what a VQGAN does to a clip does not mislead it, and
turned about in time, so that where a drawing looks says nothing about where it goes.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor
from tqdm import tqdm

from kinolenta.data.fetch import cache_dir
from kinolenta.data.scene import BACKGROUNDS, MOTIONS, Scene
from kinolenta.errors import KinolentaError
from kinolenta.evaluation.examples import balanced_scenes, draw
from kinolenta.evaluation.judge import WEIGHTS_NAME, Judge, JudgeNetwork, smooth

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

_MIRRORED = {"left": "right", "right": "left", "rotate_cw": "rotate_ccw", "rotate_ccw": "rotate_cw"}
_REVERSED = _MIRRORED | {
    "up": "down", "down": "up", "grow": "shrink", "shrink": "grow", "appear": "vanish", "vanish": "appear",
}  # fmt: skip
_FROZEN_SHARE = 0.04  # of clips whose frames all become one: nothing moves, whatever it looks like
_TRAIN_SEED, _HELD_SEED = 11, 7
_RATE = 3e-3


def reduced(frames: "UInt8[np.ndarray, '17 64 64 3']") -> "UInt8[np.ndarray, '17 32 32 3']":
    """One clip at the size that the judge looks at, in bytes."""
    quads = rearrange(frames.astype(np.uint16), "t (h p) (w q) c -> t h w c p q", p=2, q=2).sum(axis=(-2, -1))
    return ((quads + 2) // 4).astype(np.uint8)


def labels(scenes: list[Scene]) -> tuple["Int[Tensor, ' n']", "Int[Tensor, ' n']"]:
    """Numbers of motion and background of each scene."""
    motions = [MOTIONS.index(scene.motion) for scene in scenes]
    backgrounds = [BACKGROUNDS.index(scene.background) for scene in scenes]
    return torch.tensor(motions), torch.tensor(backgrounds)


def disturb(
    small: "Float[Tensor, 'b t 3 32 32']", motions: "Int[Tensor, ' b']", rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Clips turned about and spoilt at random, and the numbers of the motions that they show then."""
    b, t = small.shape[:2]

    def chance(share: float) -> Tensor:
        return torch.rand(b, generator=rng) < share

    def level(largest: float) -> Tensor:
        return (torch.rand(b, generator=rng) * largest)[:, None, None, None, None]

    motions = motions.clone()
    for chosen, axis, names in ((chance(0.5), -1, _MIRRORED), (chance(0.5), 1, _REVERSED)):
        small = torch.where(chosen[:, None, None, None, None], small.flip(axis), small)
        table = torch.tensor([MOTIONS.index(names.get(name, name)) for name in MOTIONS])
        motions = torch.where(chosen, table[motions], motions)
    frozen = chance(_FROZEN_SHARE)
    frame = int(torch.randint(t, (), generator=rng))
    small = torch.where(frozen[:, None, None, None, None], small[:, frame : frame + 1], small)
    motions = torch.where(frozen, torch.tensor(MOTIONS.index("still")), motions)

    small = small + (smooth(small) - small) * level(1.0)
    coarse = reduce(small, "b t c (h p) (w q) -> (b t) c h w", "mean", p=4, q=4)
    soft = rearrange(F.interpolate(coarse, scale_factor=4, mode="bilinear"), "(b t) c h w -> b t c h w", b=b)
    blocks = repeat(coarse, "(b t) c h w -> b t c (h p) (w q)", b=b, p=4, q=4)
    for spoilt, share in ((soft, 0.4), (blocks, 0.15), (_still_within_codes(small), 0.3)):
        small = small + (spoilt - small) * level(0.8) * chance(share)[:, None, None, None, None]
    # A wrong code spoils 8 x 8 pixels of four frames: here 4 x 4 that change with every latent frame.
    flicker = torch.randn(b, (t + 3) // 4, 3, 8, 8, generator=rng)
    flicker = repeat(flicker, "b t c h w -> b (t s) c (h p) (w q)", s=4, p=4, q=4)[:, 3 : 3 + t]
    grain = torch.randn(small.shape[1:], generator=rng)  # one for the batch: fresh noise is slow to draw
    small = small + flicker * level(0.04) + grain * level(0.03)
    gain = 1 + 0.06 * torch.randn(b, 1, 1, 1, 1, generator=rng)
    shift = 0.015 * torch.randn(b, 1, 3, 1, 1, generator=rng)
    return (small * gain + shift).clamp(0, 1), motions


def _still_within_codes(small: Tensor) -> Tensor:
    """The first frame, and after it the mean of each four frames, which share their codes."""
    groups = reduce(small[:, 1:], "b (t s) c h w -> b t c h w", "mean", s=4)
    return torch.cat([small[:, :1], repeat(groups, "b t c h w -> b (t s) c h w", s=4)], dim=1)


def train(
    clips: "UInt8[np.ndarray, 'n 17 32 32 3']",
    scenes: list[Scene],
    *,
    epochs: int,
    batch: int = 32,
    seed: int = 0,
) -> JudgeNetwork:
    """A trained network; the mean of its weights over the last steps, which judges better than the last
    alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = JudgeNetwork()
        rng = torch.Generator().manual_seed(seed)
        motions, backgrounds = labels(scenes)
        steps = epochs * (len(scenes) // batch)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.02)
        average = {name: value.clone() for name, value in network.state_dict().items()}
        order = torch.empty(0, dtype=torch.long)
        bar = tqdm(range(steps), desc="judge", file=sys.stderr, mininterval=5)
        for step in bar:
            if len(order) < batch:
                order = torch.randperm(len(scenes), generator=rng)
            chosen, order = order[:batch], order[batch:]
            small = rearrange(torch.from_numpy(clips[chosen.numpy()]), "b t h w c -> b t c h w").float() / 255
            small, shown = disturb(small, motions[chosen], rng)
            motion, background = network(small)
            loss = F.cross_entropy(motion, shown, label_smoothing=0.02)
            loss = loss + F.cross_entropy(background, backgrounds[chosen], label_smoothing=0.02)
            fall = (1 + math.cos(math.pi * step / steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = _RATE * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * fall)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                state = network.state_dict()
                weight = max(0.02, 1 / (step + 2))
                torch._foreach_lerp_(list(average.values()), [state[name] for name in average], weight)
            if step % 50 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}")
        network.load_state_dict(average)
    return network.eval()


def accuracy(judge: Judge, clips: "UInt8[np.ndarray, 'n 17 h w 3']", scenes: list[Scene]) -> dict[str, Any]:
    """Shares judged right: motion, background, both, and each class by name."""
    verdicts = judge(clips)
    right = {
        "motion": np.array(
            [seen == scene.motion for seen, scene in zip(verdicts.motions, scenes, strict=True)]
        ),
        "background": np.array(
            [seen == scene.background for seen, scene in zip(verdicts.backgrounds, scenes, strict=True)]
        ),
    }
    found: dict[str, Any] = {name: float(values.mean()) for name, values in right.items()}
    found["both"] = float((right["motion"] & right["background"]).mean())
    for name, classes in (("motion", MOTIONS), ("background", BACKGROUNDS)):
        shown = np.array([getattr(scene, name) for scene in scenes])
        found[f"{name}_by_class"] = {
            one: [int(right[name][shown == one].sum()), int((shown == one).sum())] for one in classes
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train the judge of clips on real renderings.")
    parser.add_argument("--clips", type=int, default=6006, help="training clips to draw")
    parser.add_argument("--held-clips", type=int, default=1040, help="T1 clips to measure it on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name(WEIGHTS_NAME))
    options = parser.parse_args(arguments)
    try:
        scenes = balanced_scenes(options.clips, split="train", seed=_TRAIN_SEED)
        clips = draw(scenes, cache_dir(), workers=options.workers, shrink=reduced)
        started = time.process_time()
        network = train(clips, scenes, epochs=options.epochs)
        recipe = {
            "clips": options.clips,
            "epochs": options.epochs,
            "train_seed": _TRAIN_SEED,
            "cpu_s": round(time.process_time() - started),
        }
        held = balanced_scenes(options.held_clips, split="T1", seed=_HELD_SEED)
        held_clips = draw(held, cache_dir(), workers=options.workers)
        figures = accuracy(Judge(network, {}), held_clips, held)
        Judge(network, {"recipe": recipe, "held_out": figures}).save(options.output)
    except KinolentaError as error:
        print(error, file=sys.stderr)
        return 1
    print_figures(figures)
    return 0


def print_figures(figures: dict[str, Any]) -> None:
    for name in ("motion", "background", "both"):
        print(f"{name:12s}{100 * figures[name]:6.1f} %")
    for name in ("motion_by_class", "background_by_class"):
        print(name, "  ".join(f"{one} {right}/{count}" for one, (right, count) in figures[name].items()))


if __name__ == "__main__":
    sys.exit(main())
