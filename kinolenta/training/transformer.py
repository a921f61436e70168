"""Training of the GPT on codes and captions.

Each row is a clip with its caption on the left. A dropped caption (classifier-free guidance needs rows
without one) moves to the right of the clip, so that the same rows teach the model to describe what it sees.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from kinolenta.checkpoint import load_into, load_weights, save_weights
from kinolenta.config import Config
from kinolenta.data.codes import Shard, open_shard
from kinolenta.errors import ConfigError, require
from kinolenta.tokenizer import TextTokenizer
from kinolenta.training.corruption import corrupt, draft
from kinolenta.training.loop import OptimConfig, Trainer
from kinolenta.transformer import GPT, GPTConfig, SequenceLayout
from kinolenta.transformer.layout import Strip
from kinolenta.transformer.loss import strip_loss


@dataclass(frozen=True, kw_only=True)
class TransformerTrainConfig(Config):
    """codes and dev_codes: folders made by ``kinolenta data encode``; tokenizer: a folder, or None for the
    shipped.

    start: folder of a trained transformer to go on from, or None.
    caption_dropout: share of rows whose caption stands on the right instead of the left.
    corruption: largest share of a row's codes that the model sees wrong, see ``corrupt``.
    draft_window: codes in a row that half of the rows show as the model would draw them, see ``draft``.
    text_weight: weight of the right texts' loss.
    """

    start: str | None = None
    codes: str = "runs/codes"
    dev_codes: str = "runs/codes_dev"
    tokenizer: str | None = None
    model: GPTConfig = field(default_factory=GPTConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch: int = 16
    steps: int = 2000
    caption_dropout: float = 0.1
    corruption: float = 0.0
    draft_window: int = 0
    text_weight: float = 0.1
    dtype: str = "float32"
    eval_every: int = 250
    eval_clips: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.batch > 0 and self.steps > 0,
            ConfigError,
            "batch and steps must be positive; got {} and {}.",
            self.batch,
            self.steps,
        )
        require(
            0 <= self.caption_dropout < 1,
            ConfigError,
            "caption_dropout must be in [0, 1); got {}.",
            self.caption_dropout,
        )
        require(
            0 <= self.corruption < 1, ConfigError, "corruption must be in [0, 1); got {}.", self.corruption
        )
        require(
            self.draft_window >= 0,
            ConfigError,
            "draft_window must not be negative; got {}.",
            self.draft_window,
        )
        require(
            self.dtype in ("float32", "bfloat16"),
            ConfigError,
            "dtype must be float32 or bfloat16; got {!r}.",
            self.dtype,
        )


def train(config: TransformerTrainConfig, out: Path, *, resume: bool = False) -> Path:
    """Train, and leave the averaged weights in ``out/model``. Returns that folder."""
    torch.manual_seed(config.seed)
    tokenizer = TextTokenizer.load(Path(config.tokenizer)) if config.tokenizer else TextTokenizer.shipped()
    check_tokenizer(config.model, tokenizer)
    rows = _Rows(open_shard(Path(config.codes)), tokenizer, config)
    dev = _Rows(open_shard(Path(config.dev_codes)), tokenizer, config)
    model = GPT(config.model)
    if config.start is not None:
        _, state = load_weights(Path(config.start), GPTConfig)
        load_into(model, state, config.start)
    trainer = Trainer(model, config.optim, total_steps=config.steps, out=out, run=config.to_dict())
    if resume:
        trainer.resume()
    for step in trainer.steps("GPT"):
        strip = rows.batch(step)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        shown = corrupt(strip, config.model, config.corruption, generator) if config.corruption else strip
        shown = draft(model, shown, config.draft_window, generator) if config.draft_window else shown

        def loss_of(strip: Strip = strip, shown: Strip = shown) -> tuple[Tensor, dict[str, float]]:
            with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
                loss = strip_loss(model, strip, shown)
            total = loss.code_nats.mean() + config.text_weight * loss.text_nats + 1e-4 * loss.z_loss
            return total, {"code_nats": loss.code_nats.mean().item(), "text_nats": loss.text_nats.item()}

        trainer.step(loss_of)
        if trainer.step_number % config.eval_every == 0 or trainer.step_number == config.steps:
            with trainer.averaged():
                trainer.log(**evaluate(model, dev, config.eval_clips))
    with trainer.averaged():
        save_weights(out / "model", config.model, model.state_dict(), dtype=torch.float16)
    return out / "model"


def check_tokenizer(config: GPTConfig, tokenizer: TextTokenizer) -> None:
    """Raises ConfigError that shows both sides if model and tokenizer differ in vocabulary or special ids."""
    ours = (config.text_vocab_size, config.bos_id, config.eot_id, config.eov_id, config.eos_id, config.pad_id)
    theirs = (
        tokenizer.vocab_size,
        tokenizer.bos_id,
        tokenizer.eot_id,
        tokenizer.eov_id,
        tokenizer.eos_id,
        tokenizer.pad_id,
    )
    require(
        ours == theirs,
        ConfigError,
        "The transformer's vocabulary size and special ids are {}, the tokenizer's {}; they must be equal.",
        ours,
        theirs,
    )


@torch.inference_mode()
def evaluate(model: GPT, rows: "_Rows", num_clips: int, batch: int = 16) -> dict[str, float]:
    """dev_nats: nats per code with captions on the left; dev_nats_t: the same of latent frame t."""
    frames: list[Tensor] = []
    for start in range(0, min(num_clips, len(rows.shard)), batch):
        strip = rows.captioned(range(start, min(start + batch, num_clips, len(rows.shard))))
        frames.append(strip_loss(model, strip).code_nats)
    nats = torch.stack(frames).mean(0)
    return {"dev_nats": nats.mean().item()} | {f"dev_nats_{t}": value.item() for t, value in enumerate(nats)}


class _Rows:
    """Batches of a shard; batch number s depends on (seed, s) alone and every clip comes once an epoch."""

    def __init__(self, shard: Shard, tokenizer: TextTokenizer, config: TransformerTrainConfig) -> None:
        self.shard, self.config, self.layout = shard, config, SequenceLayout(config.model)
        length = config.model.text_len
        self.text_ids = [
            [tokenizer.encode(wording, max_length=length, truncate=True) for wording in wordings]
            for wordings in shard.captions
        ]

    def batch(self, step: int) -> Strip:
        rng = random.Random(f"{self.config.seed}/{step}")
        chosen = [self._number(step * self.config.batch + i) for i in range(self.config.batch)]
        texts = [rng.choice(self.text_ids[number]) for number in chosen]
        dropped = [rng.random() < self.config.caption_dropout for _ in chosen]
        left = [[] if drop else text for drop, text in zip(dropped, texts, strict=True)]
        right = [text if drop else None for drop, text in zip(dropped, texts, strict=True)]
        return self.layout.pack(left, self.shard.codes[chosen], right)

    def captioned(self, numbers: range) -> Strip:
        texts = [self.text_ids[number][0] for number in numbers]
        return self.layout.pack(texts, self.shard.codes[list(numbers)])

    def _number(self, draw: int) -> int:
        epoch, place = divmod(draw, len(self.shard))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._order = epoch, list(range(len(self.shard)))
            random.Random(f"{self.config.seed}/epoch/{epoch}").shuffle(self._order)
        return self._order[place]
