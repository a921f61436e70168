"""The generate loop: captions in, codes out, one code a pass and one random stream a clip."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kinolenta.errors import ConfigError, ShapeError, require
from kinolenta.transformer.cache import decode_step, prefill
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.noise import check_stream, gumbel
from kinolenta.transformer.sampler import SamplingConfig, draw
from kinolenta.transformer.stable import MIN_ROWS, row_stable

MAX_LATENT_FRAMES = 1024


class Generated(NamedTuple):
    """A batch of generated clips.

    codes: [b, t, h, w] int64.
    log_prob: [b] float64, log p(drawn codes | text, known codes) under the model itself: temperature 1, no
    guidance. log_prob_uncond: the same without text, None unless guidance computed it.
    passes: how often the transformer ran.
    """

    codes: Tensor
    log_prob: Tensor
    log_prob_uncond: Tensor | None
    passes: int


@torch.inference_mode()
def generate(
    model: GPT,
    text_ids: Sequence[Sequence[int]],
    *,
    seeds: Sequence[int],
    candidates: Sequence[int] | None = None,
    known_codes: Tensor | None = None,
    num_latent_frames: int | None = None,
    sampling: SamplingConfig | None = None,
    guidance_scale: float = 1.0,
    on_frame: Callable[[int, Tensor], None] | None = None,
) -> Generated:
    """Draw a clip for each text; a clip depends on its own text, seed, candidate and known codes only.

    seeds, candidates: one of each per text (candidates default to 0); together they name the random stream.
    known_codes: [b, k] int64, a beginning in raster order that the clips keep exactly.
    num_latent_frames: length of the clips, the trained length unless given.
    guidance_scale: 1 is none; logits = uncond + scale * (cond - uncond), Ho & Salimans, arXiv:2207.12598.
    on_frame: called with (t, codes [b, t + 1, h, w]) when a latent frame is complete, known or drawn.
    Raises PromptError, ShapeError or ConfigError for bad input, GenerationError if logits are not numbers.
    """
    config, batch = model.config, len(text_ids)
    sampling = sampling or SamplingConfig()
    candidates = [0] * batch if candidates is None else candidates
    num_latent_frames = config.grid[0] if num_latent_frames is None else num_latent_frames
    _check(batch, seeds, candidates, num_latent_frames, guidance_scale)
    per_frame, device = config.codes_per_frame, model.kind.device
    num_codes = num_latent_frames * per_frame
    num_known = 0 if known_codes is None else known_codes.shape[-1]
    require(
        num_known <= num_codes, ShapeError, "{} codes are known but the clip has {}.", num_known, num_codes
    )

    rows = _Rows(batch, guided=guidance_scale != 1)
    strip = model.layout.pack_prefill(
        rows.texts(text_ids), None if known_codes is None else rows.codes(known_codes)
    )
    codes = torch.zeros(batch, num_codes, dtype=torch.int64, device=device)
    codes[:, :num_known] = strip.token_ids[:batch, model.layout.text_slots :] - config.text_vocab_size
    shots = codes.view(batch, num_latent_frames, *config.grid[1:])
    if on_frame is not None:
        for t in range(num_known // per_frame):
            on_frame(t, shots[:, : t + 1])

    model = row_stable(model)
    cache, logits = prefill(model, strip.to(device), num_codes)
    passes, noise = 1, None
    log_prob = torch.zeros(2, batch, dtype=torch.float64, device=device)  # with text, without
    for index in range(num_known, num_codes):
        if sampling.temperature > 0 and (noise is None or index % per_frame == 0):
            first = index - index % per_frame
            frame = torch.arange(first, first + per_frame, device=device)
            streams = zip(seeds, candidates, strict=True)
            noise = torch.stack([gumbel(*stream, frame, config.codebook_size) for stream in streams], 1)
        conditional, unconditional = rows.split(logits.float())
        guided = conditional
        if unconditional is not None:
            guided = unconditional + guidance_scale * (conditional - unconditional)
        drawn = draw(guided, None if noise is None else noise[index % per_frame], sampling, index)
        codes[:, index] = drawn
        log_prob[0] += _log_probability(conditional, drawn)
        if unconditional is not None:
            log_prob[1] += _log_probability(unconditional, drawn)
        if on_frame is not None and (index + 1) % per_frame == 0:
            on_frame(index // per_frame, shots[:, : index // per_frame + 1])
        if index + 1 < num_codes:
            logits = decode_step(model, cache, rows.codes(drawn[:, None]), index)[:, 0]
            passes += 1
    return Generated(shots, log_prob[0], log_prob[1] if rows.guided else None, passes)


class _Rows:
    """Rows of the batch: the clips, then the same clips without text if guided; never fewer than MIN_ROWS."""

    def __init__(self, batch: int, guided: bool) -> None:
        self.batch, self.guided = batch, guided
        self.copies = 2 if guided else math.ceil(MIN_ROWS / batch)

    def texts(self, text_ids: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        if self.guided:
            return [*text_ids, *[()] * self.batch]
        return [*text_ids] * self.copies

    def codes(self, codes: Tensor) -> Tensor:
        return codes if self.copies == 1 else codes.repeat(self.copies, 1)

    def split(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits with text and without."""
        return logits[: self.batch], logits[self.batch :] if self.guided else None


def _log_probability(logits: Tensor, codes: Tensor) -> Tensor:
    return (logits.gather(1, codes[:, None])[:, 0] - logits.logsumexp(-1)).double()


def _check(
    batch: int, seeds: Sequence[int], candidates: Sequence[int], num_latent_frames: int, guidance_scale: float
) -> None:
    require(batch >= 1, ConfigError, "text_ids is an empty list; pass at least one text.")
    for name, values in (("seeds", seeds), ("candidates", candidates)):
        require(
            len(values) == batch, ConfigError, "{} texts but {} {}; pass one each.", batch, len(values), name
        )
    for seed, candidate in zip(seeds, candidates, strict=True):
        check_stream(seed, candidate)
    require(
        1 <= num_latent_frames <= MAX_LATENT_FRAMES,
        ConfigError,
        "num_latent_frames is {}; it must lie in 1..{}.",
        num_latent_frames,
        MAX_LATENT_FRAMES,
    )
    require(
        0 <= guidance_scale <= 100,
        ConfigError,
        "guidance_scale is {}; it must lie in 0..100, where 1 means no guidance.",
        guidance_scale,
    )
