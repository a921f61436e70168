"""Guidance learned: what a model draws from two rows, with text and without, it learns to draw from one.

Meng et al. 2023, arXiv:2210.03142, did it for diffusion models. The teacher is the model that training
starts from, and stays as it is: towards the logits that guidance makes of its rows, rows marked for it
(``SequenceLayout.guided``) are trained, while plain rows go on learning from codes. Towards its own plain
rows, as they learn, a model runs away: guidance multiplies whatever changes in them.
"""

import torch
from torch import Tensor

from kinolenta.transformer import GPT, Strip
from kinolenta.transformer.loss import strip_loss


def guidance_nats(model: GPT, teacher: GPT, strip: Strip, shown: Strip | None = None) -> Tensor:
    """Mean divergence per code of the model's marked rows from the teacher's guided ones, in nats.

    strip: captions and codes, as ``SequenceLayout.pack`` gives them. shown: what the marked rows see instead,
    marked as well, see ``strip_loss``. The scale is the model's ``learned_guidance``.
    """
    scale = model.config.learned_guidance
    assert scale is not None
    taught = guided_log_probs(teacher, strip, scale)
    return strip_loss(model, model.layout.guided(strip), shown, taught).code_nats.mean()


@torch.no_grad()
def guided_log_probs(teacher: GPT, strip: Strip, scale: float) -> Tensor:
    """Log-probabilities of every code as guidance draws it, [b, n, codebook_size] float32."""
    found = teacher.layout.unpack(strip)
    bare = teacher.layout.pack([()] * len(found.left), found.codes, order=strip.order)
    return _code_logits(teacher, bare).lerp(_code_logits(teacher, strip), scale).log_softmax(-1)


def _code_logits(model: GPT, strip: Strip) -> Tensor:
    """In float32 under autocast too: guidance multiplies what is rounded off."""
    hidden = model(strip)
    slots = model.layout.code_slots(strip) - 1
    with torch.autocast("cpu", enabled=False):
        return model.code_logits(hidden[torch.arange(len(slots))[:, None], slots].float())
