"""How often clips show what their captions say, with the rows that make such a figure mean something.

Four rows over the same captions: real renderings (the ceiling: the judge's own errors), the same through the
VQGAN, generated clips, and generated clips against the captions of others (the floor: what chance and habit
give).
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kinolenta.data.captions import caption
from kinolenta.data.scene import BACKGROUNDS, MOTIONS, Scene
from kinolenta.errors import CheckpointError, ConfigError, require
from kinolenta.evaluation.examples import scene_of
from kinolenta.evaluation.judge import Verdicts
from kinolenta.pixels import to_float, to_uint8
from kinolenta.training.decoder import clip_psnr

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from kinolenta.decoder import VideoVQGAN

LEAST_CEILING = 0.95  # a judge that is wrong about more real clips than this cannot judge others
GOALS = {"motion": 0.70, "background": 0.85, "psnr_db": 26.0, "codes_used": 0.60}
_Z = 1.959963984540054  # 95 % of a normal distribution


@dataclass(frozen=True)
class Share:
    """right of count, with its 95 % interval after Wilson 1927, which is fair near 0 and 1 too."""

    right: int
    count: int

    def __post_init__(self) -> None:
        require(
            0 <= self.right <= self.count and self.count > 0,
            ConfigError,
            "{} of {} is no share; the count must be at least 1 and hold it.",
            self.right,
            self.count,
        )

    @property
    def value(self) -> float:
        return self.right / self.count

    @property
    def interval(self) -> tuple[float, float]:
        n, p = self.count, self.value
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {"right": self.right, "count": self.count, "share": round(self.value, 4),
                "low": round(low, 4), "high": round(high, 4)}  # fmt: skip

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:5.1f} [{100 * low:5.1f} {100 * high:5.1f}]"


@dataclass(frozen=True)
class Row:
    """One line of the table: how many clips showed the motion, the background, and both of their scenes."""

    name: str
    motion: Share
    background: Share
    both: Share

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).to_dict() for name in ("motion", "background", "both")}


@dataclass(frozen=True)
class Coding:
    """What a VQGAN keeps of one source of clips: mean over clips of their PSNR, share of the codebook met."""

    clips: int
    psnr_db: float
    codes_used: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "clips": self.clips,
            "psnr_db": round(self.psnr_db, 3),
            "codes_used": round(self.codes_used, 4),
        }


def held_out(count: int, *, split: str, seed: int) -> tuple[list[Scene], list[str]]:
    """Scenes of a split that have one of the 13 motions, and a caption of each in the wordings of
    training."""
    require(
        count > 1, ConfigError, "clips must be at least 2, so that captions can change places; got {}.", count
    )
    scenes = [scene_of(index, split=split, seed=seed, purpose="quality") for index in range(count)]
    return scenes, [caption(scene, random.Random(f"quality/{seed}/{i}")) for i, scene in enumerate(scenes)]


def score(name: str, verdicts: Verdicts, scenes: Sequence[Scene]) -> Row:
    """Compare what the judge saw with what the scenes say."""
    assert len(verdicts.motions) == len(scenes)
    motion = [seen == scene.motion for seen, scene in zip(verdicts.motions, scenes, strict=True)]
    background = [seen == scene.background for seen, scene in zip(verdicts.backgrounds, scenes, strict=True)]
    both = [one and other for one, other in zip(motion, background, strict=True)]
    return Row(name, *(Share(sum(values), len(scenes)) for values in (motion, background, both)))


def shuffled(scenes: Sequence[Scene], seed: int) -> list[Scene]:
    """The scenes in another order, so that none stands at its own place."""
    order = list(range(len(scenes)))
    random.Random(f"shuffle/{seed}").shuffle(order)
    other = {here: there for here, there in zip(order, order[1:] + order[:1], strict=True)}
    return [scenes[other[i]] for i in range(len(scenes))]


def check_ceiling(row: Row) -> None:
    """Raise CheckpointError if the judge errs about real renderings: then it cannot judge others."""
    for name in ("motion", "background"):
        share: Share = getattr(row, name)
        require(
            share.value >= LEAST_CEILING,
            CheckpointError,
            "The judge names the {} of only {:.1f} % of real renderings right; it must reach {:.0f} % to "
            "judge others. Train it again: python -m kinolenta.evaluation.train_judge",
            name,
            100 * share.value,
            100 * LEAST_CEILING,
        )


def confusion(shown: Sequence[str], seen: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """For every class asked for, how often the judge saw which."""
    pairs = Counter(zip(shown, seen, strict=True))
    return {
        one: {other: pairs[one, other] for other in names if pairs[one, other]}
        for one in names
        if any(pairs[one, other] for other in names)
    }


@torch.inference_mode()
def coding(
    decoder: "VideoVQGAN",
    sources: dict[str, tuple[int, Callable[[int], "UInt8[np.ndarray, '17 h w 3']"]]],
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Coding]:
    """PSNR and codebook use by source (number of clips, clip number i) and over "all" of them."""
    size = decoder.config.codebook_size
    found: dict[str, Coding] = {}
    psnr: list[float] = []
    used = torch.zeros(size, dtype=torch.bool)
    for name, (count, clip) in sources.items():
        own: list[float] = []
        own_used = torch.zeros(size, dtype=torch.bool)
        for index in range(count):
            frames = np.array(clip(index))
            codes = decoder.encode(to_float(frames[None]))
            own_used[codes.flatten()] = True
            own.append(clip_psnr(frames, to_uint8(decoder.decode(codes))[0]))
            progress()
        found[name] = Coding(count, float(np.mean(own)), own_used.float().mean().item())
        psnr += own
        used |= own_used
    return found | {"all": Coding(len(psnr), float(np.mean(psnr)), used.float().mean().item())}


def report(
    rows: Sequence[Row], codings: dict[str, Coding], verdicts: Verdicts, scenes: Sequence[Scene]
) -> dict[str, Any]:
    """The figures as plain values: "rows", "vqgan", "confusion" of the generated clips, and "goals" with who
    met them.

    rows must hold one named "generated"; verdicts are those on the generated clips.
    """
    [generated] = [row for row in rows if row.name == "generated"]
    world = codings.get("world", codings["all"])
    reached = {
        "motion": generated.motion.value,
        "background": generated.background.value,
        "psnr_db": world.psnr_db,
        "codes_used": codings["all"].codes_used,
    }
    return {
        "rows": {row.name: row.to_dict() for row in rows},
        "vqgan": {name: one.to_dict() for name, one in codings.items()},
        "confusion": {
            "motion": confusion([scene.motion for scene in scenes], verdicts.motions, MOTIONS),
            "background": confusion(
                [scene.background for scene in scenes], verdicts.backgrounds, BACKGROUNDS
            ),
        },
        "goals": {
            name: {"wanted": wanted, "reached": round(reached[name], 4), "met": reached[name] >= wanted}
            for name, wanted in GOALS.items()
        },
    }
