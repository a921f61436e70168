"""Training of the GPT on codes, captions and questions; ``kinolenta.training.rows`` says what a row holds."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from kinolenta.checkpoint import load_into, load_weights, save_weights
from kinolenta.config import Config
from kinolenta.data.codes import open_shard
from kinolenta.errors import ConfigError, require
from kinolenta.tokenizer import TextTokenizer
from kinolenta.training.corruption import corrupt, draft
from kinolenta.training.dtype import check_dtype, forward_in
from kinolenta.training.loop import OptimConfig, Trainer
from kinolenta.training.rows import TASKS, MixtureConfig, Rows
from kinolenta.transformer import GPT, GPTConfig
from kinolenta.transformer.layout import Strip
from kinolenta.transformer.loss import right_tokens, strip_loss, text_loss


@dataclass(frozen=True, kw_only=True)
class TransformerTrainConfig(Config):
    """codes and dev_codes: folders made by ``kinolenta data encode``; tokenizer: a folder, or None for the
    shipped. long_codes, long_dev_codes: the same with longer clips, for rows of the task "later".
    wandering_codes: the same, encoded with wandering=true, for glances.

    start: folder of a trained transformer to go on from, or None. start_share: its share in the weights that
    are left at the end, the rest being the trained ones (Wortsman et al. 2021, arXiv:2109.01903).
    mixture: shares of the tasks.
    corruption: largest share of a row's codes that the model sees wrong, see ``corrupt``.
    draft_window: codes in a row that half of the rows show as the model would draw them, see ``draft``.
    text_weight: weight of the right texts' loss, a mean over the batch and the glances together.
    """

    start: str | None = None
    start_share: float = 0.0
    codes: str = "runs/codes"
    dev_codes: str = "runs/codes_dev"
    long_codes: str | None = None
    long_dev_codes: str | None = None
    wandering_codes: str | None = None
    tokenizer: str | None = None
    model: GPTConfig = field(default_factory=GPTConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch: int = 16
    steps: int = 2000
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
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
            self.start_share == 0 or (self.start is not None and 0 < self.start_share < 1),
            ConfigError,
            "start_share must be 0, or lie between 0 and 1 and have a start; got {} and {}.",
            self.start_share,
            self.start,
        )
        require(
            (self.mixture.later == 0) or (self.long_codes is not None and self.long_dev_codes is not None),
            ConfigError,
            "rows of the task later need long_codes and long_dev_codes; encode clips of more frames.",
        )
        require(
            self.wandering_codes is None or self.mixture.glances > 0,
            ConfigError,
            "wandering_codes are for glances; set mixture.glances above 0 or leave them out.",
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
        check_dtype(self.dtype)


def train(config: TransformerTrainConfig, out: Path, *, resume: bool = False) -> Path:
    """Train, and leave the averaged weights in ``out/model``. Returns that folder."""
    forward = forward_in(config.dtype)
    torch.manual_seed(config.seed)
    tokenizer = TextTokenizer.load(Path(config.tokenizer)) if config.tokenizer else TextTokenizer.shipped()
    check_tokenizer(config.model, tokenizer)
    rows = _rows(config, tokenizer, config.codes, config.long_codes, config.wandering_codes)
    dev = _rows(config, tokenizer, config.dev_codes, config.long_dev_codes, None)
    model = GPT(config.model)
    start: dict[str, Tensor] = {}
    if config.start is not None:
        started, start = load_weights(Path(config.start), GPTConfig)
        theirs, ours = (f"{one.scan!r} and {one.gap}" for one in (started, config.model))
        require(
            config.start_share == 0 or theirs == ours,
            ConfigError,
            "start_share mixes weights of one scan and gap; the start has {}, the model {}. Set it to 0.",
            theirs,
            ours,
        )
        load_into(model, start, config.start)
    trainer = Trainer(model, config.optim, total_steps=config.steps, out=out, run=config.to_dict())
    if resume:
        trainer.resume()
    for step in trainer.steps("GPT"):
        strip = rows.batch(step, config.batch)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        shown = corrupt(strip, config.model, config.corruption, generator) if config.corruption else strip
        shown = draft(model, shown, config.draft_window, generator) if config.draft_window else shown
        glances = None
        if config.mixture.glances:
            glances = rows.glances(random.Random(f"{config.seed}/{step}/glance"), config.mixture.glances)

        def loss_of(
            strip: Strip = strip, shown: Strip = shown, glances: Strip | None = glances
        ) -> tuple[Tensor, dict[str, float]]:
            with forward:
                loss = strip_loss(model, strip, shown)
                text_nats, parts = loss.text_nats, {"text_nats": loss.text_nats.item()}
                if glances is not None:
                    seen = text_loss(model, glances)
                    parts["glance_nats"] = seen.item()
                    share = right_tokens(glances) / (right_tokens(glances) + right_tokens(strip))
                    text_nats = share * seen + (1 - share) * text_nats
            code_nats = loss.code_nats.mean()
            total = code_nats + config.text_weight * text_nats + 1e-4 * loss.z_loss
            return total, {"code_nats": code_nats.item(), **parts}

        trainer.step(loss_of)
        if trainer.step_number % config.eval_every == 0 or trainer.step_number == config.steps:
            with trainer.averaged():
                trainer.log(**evaluate(model, dev, config.eval_clips))
    with trainer.averaged():
        if config.start_share:
            _mix(model, start, config.start_share)
            left = evaluate(model, dev, config.eval_clips)
            trainer.log(**{f"mixed_{name}": value for name, value in left.items()})
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
def evaluate(model: GPT, rows: Rows, num_clips: int, batch: int = 16) -> dict[str, float]:
    """Nats on held-out clips: dev_nats, per code with captions on the left, and dev_nats_t of latent frame t;
    dev_read, per text_id of captions on the right; for the other tasks of the mixture dev_given and dev_later
    per code, dev_ask, dev_glance (single frames) and dev_look (whole clips) per text_id of an answer.
    """
    found: dict[str, float] = {}
    count = min(num_clips, len(rows.shard))
    for task in ("plain", "read", *(other for other in TASKS[1:] if getattr(rows.mixture, other))):
        rng, nats, text_nats = random.Random(f"evaluate/{task}"), [], []
        for start in range(0, count, batch):
            numbers = range(start, min(start + batch, count))
            tasks, dropped = [task] * len(numbers), [task == "read"] * len(numbers)
            loss = strip_loss(model, rows.strip(tasks, dropped, numbers, rng))
            nats.append(loss.code_nats)
            text_nats.append(loss.text_nats)
        by_frame = torch.stack(nats).mean(0)
        if task == "plain":
            found["dev_nats"] = by_frame.mean().item()
            found |= {f"dev_nats_{t}": value.item() for t, value in enumerate(by_frame)}
        else:
            values = torch.stack(text_nats) if task in ("read", "ask") else by_frame
            found[f"dev_{task}"] = values.mean().item()
    if rows.mixture.glances:
        for name, whole in (("glance", False), ("look", True)):
            rng, sums, tokens = random.Random(f"evaluate/{name}"), 0.0, 0
            for start in range(0, count, batch):
                size = min(batch, count - start) * (rows.config.grid[0] if whole else 1)
                strip = rows.glances(rng, size, whole=whole)
                sums += text_loss(model, strip).item() * right_tokens(strip)
                tokens += right_tokens(strip)
            found[f"dev_{name}"] = sums / tokens
    return found


@torch.no_grad()
def _mix(model: GPT, start: dict[str, Tensor], share: float) -> None:
    """Move the weights towards those of the start by a share of the way."""
    for name, value in model.state_dict().items():
        value.lerp_(start[name].to(value.dtype), share)


def _rows(
    config: TransformerTrainConfig,
    tokenizer: TextTokenizer,
    codes: str,
    longer: str | None,
    wandering: str | None,
) -> Rows:
    return Rows(
        open_shard(Path(codes)),
        tokenizer,
        config.model,
        config.mixture,
        longer=None if longer is None else open_shard(Path(longer)),
        wandering=None if wandering is None else open_shard(Path(wandering)),
        seed=config.seed,
    )
