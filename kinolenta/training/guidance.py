"""Guidance learned: what a model draws from two rows, with text and without, it learns to draw from one.

Meng et al. 2023, arXiv:2210.03142, did it for diffusion models, with a teacher and a pupil. Here both are
one model: rows marked for it (``SequenceLayout.guided``) are trained towards the logits that guidance makes
of its plain rows, which go on learning from codes.
"""

import torch
from torch import Tensor

from kinolenta.errors import ConfigError, require
from kinolenta.transformer import GPT, GPTConfig, Strip
from kinolenta.transformer.loss import strip_loss


def guidance_nats(model: GPT, strip: Strip, shown: Strip | None = None) -> Tensor:
    """Mean divergence per code of the marked rows from the guided plain ones, KL(plain || marked), in nats.

    strip: captions and codes, as ``SequenceLayout.pack`` gives them. shown: what the marked rows see instead,
    marked as well, see ``strip_loss``.
    """
    guided = model.layout.guided
    return strip_loss(model, guided(strip), shown, guided_log_probs(model, strip)).code_nats.mean()


@torch.no_grad()
def guided_log_probs(model: GPT, strip: Strip) -> Tensor:
    """Log-probabilities of every code as guidance of the scale to be learned draws it, [b, n, codebook_size]
    float32.
    """
    scale = model.config.learned_guidance
    assert scale is not None
    found = model.layout.unpack(strip)
    bare = model.layout.pack([()] * len(found.left), found.codes, order=strip.order)
    return _code_logits(model, bare).lerp(_code_logits(model, strip), scale).log_softmax(-1)


def check_guidance(config: GPTConfig, rows: int) -> None:
    """Raises ConfigError unless rows to learn guidance from go with a scale to learn."""
    require(
        (rows > 0) == (config.learned_guidance is not None),
        ConfigError,
        "mixture.guided is {} and model.learned_guidance {}; rows to learn from and a scale go together.",
        rows,
        config.learned_guidance,
    )


def _code_logits(model: GPT, strip: Strip) -> Tensor:
    """In float32 under autocast too: guidance multiplies what is rounded off."""
    hidden = model(strip)
    slots = model.layout.code_slots(strip) - 1
    with torch.autocast("cpu", enabled=False):
        return model.code_logits(hidden[torch.arange(len(slots))[:, None], slots].float())
