"""Guidance learned: what a teacher draws from two rows, with text and without, its pupil draws from one.

Meng et al. 2023, arXiv:2210.03142, did it for diffusion models. Here the pupil's logits of a code are trained
towards those that guidance makes of the teacher's, so that drawing needs half of the rows.
"""

import torch
from torch import Tensor

from kinolenta.errors import ConfigError, require
from kinolenta.transformer import GPT, GPTConfig, Strip

_SHARED = ("scan", "grid", "codebook_size", "text_vocab_size", "text_len")


@torch.no_grad()
def guided_log_probs(teacher: GPT, strip: Strip, scale: float) -> Tensor:
    """Log-probabilities of every code as guidance draws it, [b, n, codebook_size] float32.

    Rows that a caption leads get uncond + scale * (cond - uncond); rows with text on the right, which hold no
    caption on the left, get the teacher's own.
    """
    found = teacher.layout.unpack(strip)
    led = [row for row, right in enumerate(found.right) if right is None]
    logits = _code_logits(teacher, strip)
    if led:
        bare = teacher.layout.pack([()] * len(led), found.codes[led], order=strip.order[led])
        uncond = _code_logits(teacher, bare)
        logits[led] = uncond.lerp(logits[led], scale)
    return logits.log_softmax(-1)


def check_teacher(teacher: GPTConfig, model: GPTConfig) -> None:
    """Raises ConfigError unless both read the same strips."""
    theirs, ours = ([getattr(config, name) for name in _SHARED] for config in (teacher, model))
    require(
        theirs == ours,
        ConfigError,
        "teacher and model must agree in {}; the teacher has {}, the model {}.",
        ", ".join(_SHARED),
        theirs,
        ours,
    )


def _code_logits(model: GPT, strip: Strip) -> Tensor:
    """In float32 under autocast too: guidance multiplies what is rounded off."""
    hidden = model(strip)
    slots = model.layout.code_slots(strip) - 1
    with torch.autocast("cpu", enabled=False):
        return model.code_logits(hidden[torch.arange(len(slots))[:, None], slots].float())
