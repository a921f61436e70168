"""Training of the video VQGAN: single frames first, then short clips, then whole ones.

The order matters more than any other setting: whole clips from the start show the network so few different
pictures a step that it starves (docs/training.md has the figures).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from kinolenta.checkpoint import load_into, load_weights, save_weights
from kinolenta.config import Config
from kinolenta.data.store import open_store
from kinolenta.decoder import VideoVQGAN, VQGANConfig
from kinolenta.errors import ConfigError, require
from kinolenta.pixels import to_float, to_uint8
from kinolenta.training.discriminator import AdversarialLoss
from kinolenta.training.dtype import check_dtype, forward_in
from kinolenta.training.loop import OptimConfig, Trainer
from kinolenta.training.perceptual import PerceptualDistance


@dataclass(frozen=True, kw_only=True)
class Stage(Config):
    """steps of batches of clips of num_frames consecutive frames; rate scales the learning rate."""

    num_frames: int
    batch: int
    steps: int

    def __post_init__(self) -> None:
        require(
            min(self.num_frames, self.batch, self.steps) > 0,
            ConfigError,
            "a stage's num_frames, batch and steps must be positive; got {}.",
            self.to_dict(),
        )


@dataclass(frozen=True, kw_only=True)
class DecoderTrainConfig(Config):
    """Loss = L1 + square_weight * squared error + gradient_weight * L1 of differences of neighbours +
    perceptual_weight * features + GAN, if any.

    start: folder of a trained VQGAN to go on from. Its encoder and codes stay as they are, so that a GPT that
    knows the codes keeps its worth; layers that it lacks begin as the identity.
    clips and dev_clips: folders made by ``kinolenta data render``. perceptual_frames: frames a step that the
    perceptual term looks at. adversarial_start: step at which the discriminator joins (0 weight: never).
    """

    start: str | None = None
    clips: str = "runs/clips"
    dev_clips: str = "runs/clips_dev"
    model: VQGANConfig = field(default_factory=VQGANConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    stages: tuple[Stage, ...] = ()
    gradient_weight: float = 0.5
    square_weight: float = 0.0
    perceptual_weight: float = 0.0
    perceptual_start: int = 0
    perceptual_frames: int = 8
    adversarial_weight: float = 0.0
    adversarial_start: int = 0
    dtype: str = "float32"
    eval_every: int = 500
    eval_clips: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        require(len(self.stages) > 0, ConfigError, "stages must name at least one stage of training.")

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
        """The stage that step number ``step`` belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


def train(config: DecoderTrainConfig, cache: Path, out: Path, *, resume: bool = False) -> Path:
    """Train, and leave the averaged weights in ``out/model``. Returns that folder."""
    forward = forward_in(config.dtype)
    torch.manual_seed(config.seed)
    clips, dev = open_store(Path(config.clips)), open_store(Path(config.dev_clips))
    model = VideoVQGAN(config.model)
    if config.start is not None:
        _start_from(model, Path(config.start))
    perceptual = _perceptual(config, cache)
    adversary = AdversarialLoss(config.adversarial_weight) if config.adversarial_weight else None
    trainer = Trainer(
        model,
        config.optim,
        total_steps=config.total_steps,
        out=out,
        run=config.to_dict(),
        companion=adversary,
    )
    if resume:
        trainer.resume()
    for step in trainer.steps("VQGAN"):
        frames = to_float(_batch(clips, config, step))

        def loss_of(frames: Tensor = frames, step: int = step) -> tuple[Tensor, dict[str, float]]:
            with forward:
                result = model(frames)
            loss, figures = _pixel_loss(result.frames, frames, config)
            loss = loss + result.loss
            if perceptual is not None and step >= config.perceptual_start:
                shown = _some_frames(frames.shape, config, step)
                distance = perceptual(_pick(result.frames, shown), _pick(frames, shown))
                loss = loss + config.perceptual_weight * distance
                figures["perceptual"] = distance.item()
            if adversary is not None and step >= config.adversarial_start:
                loss = loss + adversary(result.frames, frames)
            return loss, figures

        trainer.step(loss_of)
        if trainer.step_number % config.eval_every == 0 or trainer.step_number == config.total_steps:
            with trainer.averaged():
                trainer.log(**evaluate(model, dev[: config.eval_clips]))
    with trainer.averaged():
        save_weights(out / "model", config.model, model.state_dict(), dtype=torch.float16)
    return out / "model"


@torch.inference_mode()
def evaluate(model: VideoVQGAN, clips: np.ndarray, batch: int = 8) -> dict[str, float]:
    """dev_psnr: mean over clips of each clip's PSNR in dB on 8-bit frames; dev_codes_used: share of the
    codebook.
    """
    psnr, used = [], torch.zeros(model.config.codebook_size, dtype=torch.bool)
    for start in range(0, len(clips), batch):
        original = np.array(clips[start : start + batch])  # a memory-mapped store is read only
        codes = model.encode(to_float(original))
        used[codes.flatten()] = True
        decoded = to_uint8(model.decode(codes))
        psnr += [clip_psnr(a, b) for a, b in zip(original, decoded, strict=True)]
    return {"dev_psnr": float(np.mean(psnr)), "dev_codes_used": used.float().mean().item()}


def clip_psnr(original: np.ndarray, decoded: np.ndarray) -> float:
    """PSNR in dB of two uint8 clips of one shape."""
    error = np.mean((original.astype(np.float64) - decoded.astype(np.float64)) ** 2)
    return math.inf if error == 0 else float(10 * math.log10(255**2 / error))


def _batch(clips: np.ndarray, config: DecoderTrainConfig, step: int) -> np.ndarray:
    stage = config.stage(step)
    rng = np.random.default_rng([config.seed, step])
    chosen = rng.integers(0, len(clips), stage.batch)
    starts = rng.integers(0, clips.shape[1] - stage.num_frames + 1, stage.batch)
    mirrored = rng.random(stage.batch) < 0.5
    batch = np.stack([clips[i, s : s + stage.num_frames] for i, s in zip(chosen, starts, strict=True)])
    batch[mirrored] = batch[mirrored, :, :, ::-1]
    return batch


def _pixel_loss(
    output: Tensor, target: Tensor, config: DecoderTrainConfig
) -> tuple[Tensor, dict[str, float]]:
    error = output - target
    pixel = error.abs().mean()
    square = error.square().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    figures = {"l1": pixel.item(), "train_psnr": -10 * math.log10(square.item() / 4)}
    return pixel + config.square_weight * square + config.gradient_weight * edges, figures


def _start_from(model: VideoVQGAN, folder: Path) -> None:
    """Take over the weights of ``folder``, keep its encoder. Raises CheckpointError if the rest differs."""
    _, state = load_weights(folder, VQGANConfig)
    grown = {name for name in model.state_dict() if name.startswith("decoder.attention.")}
    load_into(model, {**{name: model.state_dict()[name] for name in grown}, **state}, str(folder))
    model.encoder.requires_grad_(False)


def _perceptual(config: DecoderTrainConfig, cache: Path) -> PerceptualDistance | None:
    if not config.perceptual_weight:
        return None
    from kinolenta.data.fetch import perceptual_weights

    return PerceptualDistance(perceptual_weights(cache))


def _some_frames(shape: torch.Size, config: DecoderTrainConfig, step: int) -> Tensor:
    """Flat numbers b * T + t of the frames that the perceptual term sees at this step."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    total = shape[0] * shape[2]
    return torch.randperm(total, generator=generator)[: config.perceptual_frames]


def _pick(frames: Tensor, shown: Tensor) -> Tensor:
    return rearrange(frames, "b c t h w -> (b t) c 1 h w")[shown]


__all__ = ["DecoderTrainConfig", "Stage", "clip_psnr", "evaluate", "train"]
