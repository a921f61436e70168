"""An independent judge of clips: which of the 13 motions and which of the 18 backgrounds a clip shows.

It learned from real renderings alone and shares nothing with any loss of the models it judges. Its motion
half never sees colours or drawings, only how brightness moves (after Lucas and Kanade 1981), so that an
animal which merely looks to the left does not pass for one that goes left. docs/evaluation.md has its
accuracy and its limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from kinolenta.checkpoint import load_into, load_trainer_state, save_trainer_state
from kinolenta.data.clips import NUM_FRAMES
from kinolenta.data.scene import BACKGROUNDS, MOTIONS
from kinolenta.errors import CheckpointError, ShapeError, require

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

SIZE_PX = 32  # what the judge looks at: frames are averaged down to this
WEIGHTS_NAME = "judge.safetensors"
_GRID = 8  # cells a side in which motion is measured
_FEATURES = 2 * 4 + 1  # two scales: slow motion shows on the fine one, fast motion on the coarse one
_LUMA = (0.3, 0.59, 0.11)
_NOISE = 0.02  # gradients below this (of 1) are taken for noise


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What the judge sees in b clips: names from MOTIONS and BACKGROUNDS, and how sure it is.

    motion_probabilities: float32 [b, 13] in the order of MOTIONS; background_probabilities: float32 [b, 18]
    in the order of BACKGROUNDS.
    """

    motions: list[str]
    backgrounds: list[str]
    motion_probabilities: np.ndarray
    background_probabilities: np.ndarray


def shrink(frames: "UInt8[Tensor, 'b t h w 3']") -> "Float[Tensor, 'b t 3 32 32']":
    """Frames averaged down to 32 x 32, in [0, 1]."""
    planes = rearrange(frames, "b t h w c -> (b t) c h w").float() / 255
    small = F.adaptive_avg_pool2d(planes, SIZE_PX)
    return rearrange(small, "(b t) c h w -> b t c h w", b=len(frames))


def median_frame(small: "Float[Tensor, 'b t 3 32 32']") -> "Float[Tensor, 'b 3 16 16']":
    """What stays where it is: the median of every other frame, halved once more."""
    return _halved(small[:, ::2]).median(dim=1).values


def motion_features(small: "Float[Tensor, 'b t 3 32 32']") -> "Float[Tensor, 'b t-1 9 8 8']":
    """Between each two frames, in each of 8 x 8 cells: flow (x, y), edges and change at two scales; then
    unlikeness to the clip's median frame. Edges and change are relative to the clip's mean edges: contrast
    does not count.
    """
    halved = _halved(small)
    unlike = (halved - median_frame(small)[:, None]).abs()
    unlike = reduce(unlike, "b t c (h p) (w q) -> b t h w", "mean", h=_GRID, w=_GRID)
    unlike = unlike / (unlike.amax(dim=(1, 2, 3), keepdim=True) + _NOISE)
    channels = [(unlike[:, 1:] + unlike[:, :-1]) / 2]
    luma = torch.einsum("b t c h w, c -> b t h w", small, small.new_tensor(_LUMA))[:, :, None]
    for frames in (smooth(luma), smooth(halved)):  # fine detail is told by brightness alone, which is cheap
        change = (frames[:, 1:] - frames[:, :-1])[..., 1:-1, 1:-1]
        middle = frames[:, 1:] + frames[:, :-1]
        across = (middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2]) / 4
        down = (middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]) / 4
        xx, yy, xy = _cells(across * across), _cells(down * down), _cells(across * down)
        xt, yt, tt = _cells(across * change), _cells(down * change), _cells(change * change)
        xx, yy = xx + _NOISE**2 / 4, yy + _NOISE**2 / 4
        determinant = xx * yy - xy * xy
        flow_x = (xy * yt - yy * xt) / determinant
        flow_y = (xy * xt - xx * yt) / determinant
        strength = (xx + yy).mean(dim=(1, 2, 3), keepdim=True).sqrt()
        channels += [
            flow_x.clamp(-3, 3),
            flow_y.clamp(-3, 3),
            (xx + yy).sqrt() / strength,
            tt.sqrt() / strength,
        ]
    return torch.stack(channels, dim=2)


def _halved(frames: Tensor) -> Tensor:
    return (
        frames[..., ::2, ::2] + frames[..., 1::2, ::2] + frames[..., ::2, 1::2] + frames[..., 1::2, 1::2]
    ) / 4


def smooth(frames: Tensor) -> Tensor:
    """Weights 1 2 1 along both axes; the border as if it went on."""
    for axis in (-1, -2):
        last = frames.shape[axis] - 1
        before = torch.cat([frames.narrow(axis, 0, 1), frames.narrow(axis, 0, last)], dim=axis)
        after = torch.cat([frames.narrow(axis, 1, last), frames.narrow(axis, last, 1)], dim=axis)
        frames = (before + after) / 4 + frames / 2
    return frames


def _cells(products: Tensor) -> Tensor:
    """Means over colours and over 8 x 8 cells that shade into each other; the missing border pixels count
    0."""
    planes = F.pad(products.mean(dim=2), (1, 1, 1, 1))
    return smooth(reduce(planes, "b t (h p) (w q) -> b t h w", "mean", h=_GRID, w=_GRID))


class MotionHead(nn.Module):
    """Motion features to logits: space first, cell by cell, then time."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(_FEATURES, width, 3, padding=1)
        self.coarse = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.gather = nn.Linear(2 * width * (_GRID // 2) ** 2, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.along = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.halve = nn.Conv1d(hidden, hidden, 3, stride=2, padding=1)
        self.mix = nn.Linear(hidden * ((NUM_FRAMES - 1) // 2), 64)
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(64, len(MOTIONS))

    def forward(self, features: "Float[Tensor, 'b 16 9 8 8']") -> "Float[Tensor, 'b 13']":
        b = len(features)
        x = F.gelu(self.fine(rearrange(features, "b t c h w -> (b t) c h w")))
        x = F.gelu(self.coarse(x))
        x = self.norm(self.gather(rearrange(x, "bt c h w -> bt (c h w)")))
        x = rearrange(x, "(b t) c -> b c t", b=b)
        x = x + F.gelu(self.along(x))
        x = F.gelu(self.halve(x))
        x = F.gelu(self.mix(self.dropout(rearrange(x, "b c t -> b (c t)"))))
        return self.out(self.dropout(x))


class BackgroundHead(nn.Module):
    """The clip's median frame, 16 x 16, to logits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.mix = nn.Linear(width * 16, 64)
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(64, len(BACKGROUNDS))

    def forward(self, median: "Float[Tensor, 'b 3 16 16']") -> "Float[Tensor, 'b 18']":
        x = F.gelu(self.fine(median * 2 - 1))
        x = F.gelu(self.coarse(x))
        x = F.gelu(self.mix(self.dropout(rearrange(x, "b c h w -> b (c h w)"))))
        return self.out(self.dropout(x))


class JudgeNetwork(nn.Module):
    """Both heads. They share no weight: what is behind a thing must not hint at how it moves."""

    def __init__(self, width: int = 24, hidden: int = 48, background_width: int = 32) -> None:
        super().__init__()
        self.motion = MotionHead(width, hidden)
        self.background = BackgroundHead(background_width)

    def forward(self, small: "Float[Tensor, 'b 17 3 32 32']") -> tuple[Tensor, Tensor]:
        """Logits of motion [b, 13] and of background [b, 18]."""
        return self.motion(motion_features(small)), self.background(median_frame(small))


class Judge:
    """Names the motion and the background of clips. ``facts`` is what was written down when it was
    trained."""

    def __init__(self, network: JudgeNetwork, facts: Mapping[str, Any]) -> None:
        self.network, self.facts = network.eval().requires_grad_(False), dict(facts)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """Read a judge; None is the one that comes with the package. Raises CheckpointError."""
        path = (
            Path(str(resources.files("kinolenta.evaluation"))) / WEIGHTS_NAME if path is None else Path(path)
        )
        tensors, facts = load_trainer_state(path)
        for name, ours in (("motions", MOTIONS), ("backgrounds", BACKGROUNDS)):
            if facts.get(name) != list(ours):
                raise CheckpointError(
                    f"{path} judges other {name} than the world has. Train the judge again."
                )
        network = JudgeNetwork()
        load_into(network, {name: tensor.float() for name, tensor in tensors.items()}, str(path))
        return cls(network, facts)

    def save(self, path: str | Path) -> None:
        """Write the weights as float16 and the facts as one file, whole or not at all."""
        tensors = {name: tensor.half() for name, tensor in self.network.state_dict().items()}
        named = {"motions": list(MOTIONS), "backgrounds": list(BACKGROUNDS)}
        save_trainer_state(path, tensors, self.facts | named)

    @torch.inference_mode()
    def __call__(self, frames: "UInt8[np.ndarray, 'b 17 h w 3']", batch: int = 64) -> Verdicts:
        """Judge clips of 17 frames at 8 fps, at least 32 px a side. Raises ShapeError for anything else."""
        shape = list(frames.shape)
        require(frames.dtype == np.uint8 and len(shape) == 5 and shape[1] == NUM_FRAMES and shape[4] == 3
                and min(shape[2:4]) >= SIZE_PX and shape[0] > 0, ShapeError,
                "the judge takes uint8 [b, {}, h, w, 3] with sides of {} px and more; got {} {}.",
                NUM_FRAMES, SIZE_PX, frames.dtype, shape)  # fmt: skip
        motions, backgrounds = [], []
        for start in range(0, len(frames), batch):
            part = torch.from_numpy(np.array(frames[start : start + batch]))
            motion, background = self.network(shrink(part))
            motions.append(motion.softmax(dim=1))
            backgrounds.append(background.softmax(dim=1))
        motion, background = torch.cat(motions), torch.cat(backgrounds)
        return Verdicts(
            motions=[MOTIONS[i] for i in motion.argmax(dim=1).tolist()],
            backgrounds=[BACKGROUNDS[i] for i in background.argmax(dim=1).tolist()],
            motion_probabilities=motion.numpy(),
            background_probabilities=background.numpy(),
        )
