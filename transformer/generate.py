"""Captions in, codes out: the rows of the batch, and what decodes them."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kinolenta.errors import ConfigError, ShapeError, require
from kinolenta.transformer.cache import prefill
from kinolenta.transformer.decoding import FixedPoint
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.memory import check_memory
from kinolenta.transformer.noise import check_stream
from kinolenta.transformer.sampler import SamplingConfig
from kinolenta.transformer.stable import MIN_ROWS, row_stable

MAX_LATENT_FRAMES = 1024
DECODINGS = ("parallel", "sequential", "preview")
MAX_WINDOW = 64
WINDOW = 32  # drafts a pass, see docs/decoding.md
PREVIEW_CODES = 16  # codes a pass that a preview makes final, come what may


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
    decoding: str = "parallel",
    window: int = WINDOW,
    on_frame: Callable[[int, Tensor], None] | None = None,
) -> Generated:
    """Draw a clip for each text; a clip depends on its own text, seed, candidate and known codes only.

    seeds, candidates: one of each per text (candidates default to 0); together they name the random stream.
    known_codes: [b, k] int64, a beginning in raster order that the clips keep exactly.
    num_latent_frames: length of the clips, the trained length unless given.
    guidance_scale: 1 is none; logits = uncond + scale * (cond - uncond), Ho & Salimans, arXiv:2207.12598.
    decoding: "parallel" draws up to ``window`` codes a pass, "sequential" one; their codes are the same.
    "preview" takes at least 16 a pass, right or wrong.
    on_frame: called with (t, codes [b, t + 1, h, w]) when a latent frame is complete, known or drawn.
    Raises PromptError, ShapeError or ConfigError for bad input, GenerationError if logits are not numbers.
    """
    generation = Generation(
        model,
        text_ids,
        seeds=seeds,
        candidates=candidates,
        known_codes=known_codes,
        num_latent_frames=num_latent_frames,
        sampling=sampling,
        guidance_scale=guidance_scale,
        decoding=decoding,
        window=window,
    )
    for t, codes in generation.frames():
        if on_frame is not None:
            on_frame(t, codes)
    return generation.result()


class Generation:
    """A generation that is under way: its latent frames one after the other, then the whole."""

    @torch.inference_mode()
    def __init__(
        self,
        model: GPT,
        text_ids: Sequence[Sequence[int]],
        *,
        seeds: Sequence[int],
        candidates: Sequence[int] | None = None,
        known_codes: Tensor | None = None,
        num_latent_frames: int | None = None,
        sampling: SamplingConfig | None = None,
        guidance_scale: float = 1.0,
        decoding: str = "parallel",
        window: int = WINDOW,
    ) -> None:
        """The arguments of ``generate``, and its errors; runs the texts."""
        config, batch = model.config, len(text_ids)
        candidates = [0] * batch if candidates is None else candidates
        frames = config.grid[0] if num_latent_frames is None else num_latent_frames
        _check(batch, seeds, candidates, frames, guidance_scale)
        require(
            decoding in DECODINGS,
            ConfigError,
            "there is no decoding {!r}; choose one of {}.",
            decoding,
            ", ".join(DECODINGS),
        )
        require(
            1 <= window <= MAX_WINDOW, ConfigError, "window is {}; it must lie in 1..{}.", window, MAX_WINDOW
        )
        num_codes = frames * config.codes_per_frame
        known = model.layout.checked_codes(known_codes, batch)
        num_known = known.shape[1]
        require(
            num_known <= num_codes,
            ShapeError,
            "{} codes are known but the clip has {}.",
            num_known,
            num_codes,
        )
        window = {"sequential": 1, "preview": max(window, 2 * PREVIEW_CODES)}.get(decoding, window)
        self._guided = guidance_scale != 1
        texts, copies = [*text_ids], 1
        if self._guided:
            texts, copies = [*texts, *[()] * batch], 2
        elif batch * window < MIN_ROWS:
            texts, copies = texts * MIN_ROWS, MIN_ROWS
        check_memory(config, len(texts), num_codes, window, model.kind.device)
        strip = model.layout.pack_prefill(texts).to(model.kind.device)
        model = row_stable(model)
        cache, logits = prefill(model, strip, num_codes, copies)
        cache.codes[:, :num_known] = known.to(cache.codes.device)
        self._decoder = FixedPoint(
            model,
            cache,
            logits,
            streams=list(zip(seeds, candidates, strict=True)),
            num_known=num_known,
            sampling=sampling or SamplingConfig(),
            guidance_scale=guidance_scale if self._guided else None,
            window=window,
            least=PREVIEW_CODES if decoding == "preview" else 1,
        )
        self._clips = cache.codes.view(batch, frames, *config.grid[1:])

    @torch.inference_mode()
    def frames(self) -> Iterator[tuple[int, Tensor]]:
        """(t, codes [b, t + 1, h, w]) for every latent frame as soon as all clips have it."""
        announced = 0
        for complete in self._decoder.run():
            for t in range(announced, complete):
                yield t, self._clips[:, : t + 1]
            announced = complete

    def result(self) -> Generated:
        """The clips, when ``frames`` is exhausted."""
        log_prob, log_prob_uncond = self._decoder.log_probs.sum(-1)
        return Generated(
            self._clips, log_prob, log_prob_uncond if self._guided else None, self._decoder.passes
        )


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
        isinstance(guidance_scale, (int, float))
        and not isinstance(guidance_scale, bool)
        and 0 <= guidance_scale <= 100,
        ConfigError,
        "guidance_scale is {!r}; it must lie in 0..100, where 1 means no guidance.",
        guidance_scale,
    )
