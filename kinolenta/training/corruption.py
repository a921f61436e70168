"""Wrong codes among the inputs, right ones as targets: whoever never meets mistakes repeats them.

A generated clip holds slips that no training clip has, and a draft in parallel decoding holds many. A model
that has learned to put up with some leans less on any single code before it (Infinity, arXiv:2412.04431,
section 3.4, does the same with bits).
"""

import math

import torch
from torch import Tensor

from kinolenta.transformer import GPT, GPTConfig, SequenceLayout, Strip


def corrupt(strip: Strip, config: GPTConfig, most: float, generator: torch.Generator) -> Strip:
    """The strip with some codes replaced: none in half of the rows, a share drawn from 0..most in the others.

    A replaced code is, one time in three each, that of a neighbouring place, that of another row's same
    place, or the same with one digit moved by one (with the digits of a finite scalar quantizer; otherwise a
    code at random).
    """
    batch, n = strip.token_ids.shape[0], strip.num_codes
    layout = SequenceLayout(config)
    codes = layout.codes(strip)
    share = most * (2 * torch.rand(batch, 1, generator=generator) - 1).clamp(min=0)
    wrong = torch.rand(batch, n, generator=generator) < share
    kind = torch.randint(3, (batch, n), generator=generator)
    _, _, width = config.grid
    steps = torch.tensor([-1, 1, -width, width, -config.codes_per_frame, config.codes_per_frame])
    step = steps[torch.randint(len(steps), (batch, n), generator=generator)]
    near, opposite = (strip.numbers(strip.order[:, :n] + way) for way in (step, -step))
    near = near.where((near >= 0) & (near < n), opposite)
    neighbour = codes.gather(1, near.clamp(0, n - 1)).where((near >= 0) & (near < n), codes)
    others = torch.arange(batch)[:, None] + torch.randint(1, max(2, batch), (batch, n), generator=generator)
    other = codes[others % batch, torch.arange(n)]
    replaced = torch.stack((neighbour, other, _near(codes, config, generator))).gather(0, kind[None])[0]
    return layout.with_codes(strip, replaced.where(wrong, codes))


@torch.no_grad()
def draft(model: GPT, strip: Strip, window: int, generator: torch.Generator) -> Strip:
    """The strip with ``window`` codes in a row, somewhere in each clip of the first half of the rows (or of a
    single row), drawn by the model itself from the codes that stood before them.

    Such windows are what parallel decoding looks at; a model that has seen them agrees sooner with what it
    will say once they are right (Kou et al. 2024, arXiv:2403.00835, train on whole decoding trajectories).
    """
    layout = model.layout
    half = -(-len(strip.token_ids) // 2)
    rows = strip.rows(slice(half))
    last = max(strip.num_codes - window, 0)
    start = torch.randint(last + 1, (half, 1), generator=generator)
    places = start + torch.arange(min(window, strip.num_codes))
    hidden = model(rows)
    slots = layout.predicting_slots(rows).gather(1, places)
    logits = model.code_logits(hidden[torch.arange(half)[:, None], slots]).float()
    waiting = torch.empty_like(logits).exponential_(generator=generator)
    drawn = (logits - waiting.log()).argmax(-1)
    codes = layout.codes(strip)
    codes[:half].scatter_(1, places, drawn)
    return layout.with_codes(strip, codes)


def _near(codes: Tensor, config: GPTConfig, generator: torch.Generator) -> Tensor:
    """Each code with one digit one up or down, held inside its range."""
    if not config.code_levels:
        return torch.randint(config.codebook_size, codes.shape, generator=generator)
    levels = torch.tensor(config.code_levels)
    weights = torch.tensor([math.prod(config.code_levels[:j]) for j in range(len(levels))])
    which = torch.randint(len(levels), codes.shape, generator=generator)
    up = 2 * torch.randint(2, codes.shape, generator=generator) - 1
    digit = codes // weights[which] % levels[which]
    moved = (digit + up).clamp(min=0).minimum(levels[which] - 1)
    return codes + (moved - digit) * weights[which]
