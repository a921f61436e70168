"""What the GPT learns from: cross-entropy of the codes, per latent frame, and of the right texts."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kinolenta.errors import ShapeError, require
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.layout import Strip

Z_WEIGHT = 1e-4


class StripLoss(NamedTuple):
    """Parts of the loss, all differentiable.

    code_nats: [t] mean nats per code of each latent frame, in the order of time. text_nats: mean nats per
    right text_id (and <eos>), zero if no row has right text. z_loss: mean squared log-normaliser of the code
    logits, which keeps them from drifting.
    """

    code_nats: Tensor
    text_nats: Tensor
    z_loss: Tensor

    @property
    def total(self) -> Tensor:
        """The one number to minimise: code and text nats, and a trace of z-loss."""
        return self.code_nats.mean() + self.text_nats + Z_WEIGHT * self.z_loss


def strip_loss(model: GPT, strip: Strip, shown: Strip | None = None) -> StripLoss:
    """Loss of a packed batch of whole latent frames; cross-entropy in float32 under autocast too.

    shown: what the model sees instead of the strip that it has to say: the same slots, some codes wrong.
    Raises ShapeError if the strip does not hold whole latent frames.
    """
    per_frame = model.config.codes_per_frame
    require(
        strip.num_codes > 0 and strip.num_codes % per_frame == 0,
        ShapeError,
        "strip holds {} codes a row; training takes whole latent frames of {}.",
        strip.num_codes,
        per_frame,
    )
    hidden = model(strip if shown is None else shown)
    slots, codes = model.layout.predicting_slots(strip), model.layout.codes(strip)
    nats, normalisers = _CrossEntropy.apply(model.code_logits(_rows(hidden, slots)), codes.flatten())
    nats = nats.view(-1, strip.num_codes)
    nats = nats.gather(1, strip.order[:, : strip.num_codes].argsort(1))
    code_nats = nats.view(-1, strip.num_codes // per_frame, per_frame).mean((0, 2))
    return StripLoss(code_nats, _text_nats(model, strip, hidden), normalisers.square().mean())


def text_loss(model: GPT, strip: Strip) -> Tensor:
    """Mean nats per right text_id (and <eos>) alone, as ``StripLoss.text_nats``; codes are only looked at."""
    return _text_nats(model, strip, model(strip))


def right_tokens(strip: Strip) -> int:
    """How many right text_ids and <eos> a strip holds: what its mean is taken over."""
    return int((strip.length - strip.code_start - strip.num_slots - 1).clamp(min=0).sum())


def _text_nats(model: GPT, strip: Strip, hidden: Tensor) -> Tensor:
    """Predicted slots: all after <eov>, to <eos>."""
    slots = torch.arange(hidden.shape[1], device=hidden.device)
    predicts = (slots >= (strip.code_start + strip.num_slots)[:, None]) & (slots < strip.length[:, None] - 1)
    if not bool(predicts.any()):
        return hidden.new_zeros(())
    row, slot = predicts.nonzero(as_tuple=True)
    nats, _ = _CrossEntropy.apply(model.text_logits(hidden[row, slot]), strip.token_ids[row, slot + 1])
    return nats.mean()


def _rows(hidden: Tensor, slots: Tensor) -> Tensor:
    """Hidden states at slots [b, n] of every row, as [b * n, d]."""
    first = torch.arange(hidden.shape[0], device=hidden.device)[:, None] * hidden.shape[1]
    return hidden.flatten(0, 1).index_select(0, (first + slots).flatten())


class _CrossEntropy(torch.autograd.Function):
    """Nats [n] of the targets and log-normalisers [n], in float32 whatever the type of the logits.

    One logsumexp serves both, and the backward pass fills a single buffer in place: at 4375 codes these
    passes over memory cost more than a layer of the model.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        normalisers = logits.float().logsumexp(-1)
        ctx.save_for_backward(logits, targets, normalisers)
        return normalisers - logits.gather(1, targets[:, None])[:, 0].float(), normalisers

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, targets, normalisers = ctx.saved_tensors
        to_nats, to_normalisers = gradients
        to_logits = (logits.float() - normalisers[:, None]).exp_().mul_((to_nats + to_normalisers)[:, None])
        to_logits.scatter_add_(1, targets[:, None], -to_nats[:, None])
        return to_logits.to(logits.dtype), None
