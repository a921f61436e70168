"""Many codes a pass, and the same codes as one by one: Gumbel fixed-point decoding.

A draw is argmax(warp(logits) + noise), and the noise of a place is a function of its name alone. So a window
of drafts can be drawn anew in one pass: as far as the draws repeat the drafts, they are what one code at a
time would have drawn, because their context is; so is the first that differs, since what comes before it
does not. Its successors become better drafts. docs/decoding.md has the proof.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kinolenta.transformer.cache import KVCache, decode_window
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.noise import NoiseWindow
from kinolenta.transformer.sampler import SamplingConfig, draw

FEED = 32  # known codes a pass


class FixedPoint:
    """State of a batch of clips that are drawn side by side, each at its own pace.

    done [b]: leading codes of each clip that are final. settled [b]: leading codes whose cache slots are
    final too; the next window begins there. log_probs [2, b, num_codes]: with text and without.
    """

    def __init__(
        self,
        model: GPT,
        cache: KVCache,
        logits: Tensor,
        order: Tensor,
        *,
        streams: Sequence[tuple[int, int]],
        num_known: int,
        sampling: SamplingConfig,
        first_sampling: SamplingConfig | None = None,
        guidance_scale: float,
        led: Tensor,
        windows: tuple[int, int],
        least: int = 1,
    ) -> None:
        """logits: what ``prefill`` returns for this order. The first num_known codes stand in ``cache.codes``
        already.

        streams: (seed, candidate) of each clip. first_sampling: of the first latent frame, if otherwise.
        led: [n] bool, the codes that guidance leads; if there are any, each clip has a second row in the
        cache, until they are final. windows: drafts a pass as long as guidance leads, and after that; 1 draws
        the codes one by one.
        least: codes that each pass makes final even if their context was a draft; more than 1 gives up
        exactness.
        """
        self.model, self.cache = model, cache
        self.sampling, self.first_sampling = sampling, first_sampling
        self.order = order.to(logits.device)
        self.guidance_scale, self.least = guidance_scale, least
        batch, self.num_codes = cache.codes.shape
        self.led = led.to(logits.device)
        self.num_led = int(led.nonzero().max()) + 1 if bool(led.any()) else 0  # after so many it ends
        self.window, self.last_window = (max(1, min(window, self.num_codes - 1)) for window in windows)
        self.per_frame = model.config.codes_per_frame
        self.needed = _codes_needed(order, self.per_frame)
        self.passes = 1
        self.log_probs = torch.zeros(2, batch, self.num_codes, dtype=torch.float64, device=logits.device)
        noisy = sampling.temperature > 0 or (first_sampling is not None and first_sampling.temperature > 0)
        self.noise = (
            NoiseWindow(streams, model.config.codebook_size, max(windows), self.order) if noisy else None
        )
        self.done = torch.full((batch,), num_known, device=logits.device)
        self.settled = (self.done - 1).clamp(min=0)
        self.drafted = self.done.clone()  # leading codes that are final or have a draft
        if num_known == 0:
            first = torch.zeros(batch, 1, dtype=torch.int64, device=logits.device)
            cache.codes[:, :1] = self._draw(logits[:, None], first)
            self._record(logits[:, None], first, torch.ones_like(first, dtype=torch.bool))
            self.done += 1
            self.drafted += 1
        for begin in range(0, num_known - 1, FEED):
            stop = min(begin + FEED, num_known - 1)
            decode_window(model, cache, torch.full_like(self.done, begin), stop - begin)
            self.passes += 1

    def run(self) -> Iterator[int]:
        """Draw all codes; yields how many latent frames of every clip are final whenever there are more."""
        complete = 0
        while True:
            done, before = int(self.done.min()), complete
            while complete < len(self.needed) and self.needed[complete] <= done:
                complete += 1
            if complete > before:
                yield complete
            if done == self.num_codes:
                return
            self._pass()

    def _pass(self) -> None:
        if self.num_led and int(self.done.min()) >= self.num_led:
            self._end_guidance()
        codes, n = self.cache.codes, self.window
        start = self.settled.clamp(max=self.num_codes - 1 - n)
        index = start[:, None] + torch.arange(1, n + 1, device=start.device)  # codes drawn in this pass
        self._draft(index)
        hidden = decode_window(self.model, self.cache, start, n)
        self.passes += 1
        logits = self.cache.head(hidden)
        drafts = codes.gather(1, index)
        drawn = drafts.where(index < self.done[:, None], self._draw(logits, index))
        codes.scatter_(1, index, drawn)
        agree = (drawn == drafts).long().cumprod(1).sum(1)
        self.settled = (start + 1 + agree).clamp(max=start + n)
        done = torch.maximum(self.settled + 1, (self.done + self.least).minimum(start + n + 1))
        done = done.clamp(max=self.num_codes)
        self._record(logits, index, (index >= self.done[:, None]) & (index < done[:, None]))
        self.done = done

    def _end_guidance(self) -> None:
        """The rows without text are dropped."""
        self.num_led, self.window = 0, self.last_window
        self.cache = self.cache.first_copies()

    def _draft(self, index: Tensor) -> None:
        """A place that is looked at for the first time gets the code one frame earlier, or the last one."""
        codes, history = self.cache.codes, self.cache.history
        new = index >= self.drafted[:, None]
        if not bool(new.any()):
            return
        earlier = history.gather(1, self.cache.earlier[index])
        last = codes.gather(1, self.drafted[:, None] - 1)
        guess = earlier.where(earlier < self.model.config.codebook_size, last)
        codes.scatter_(1, index, guess.where(new, codes.gather(1, index)))
        self.drafted = torch.maximum(self.drafted, index[:, -1] + 1)

    def _draw(self, logits: Tensor, index: Tensor) -> Tensor:
        """Codes [b, n] number index [b, n] from logits [rows, n, codebook_size]."""
        batch = len(index)
        guided = logits[:batch].float()
        if self.num_led:
            unconditional, led = logits[batch:].float(), self.led[index][..., None]
            guided = (unconditional + self.guidance_scale * (guided - unconditional)).where(led, guided)
        noise = None if self.noise is None else self.noise.at(index)
        places = self.order[index]
        drawn = draw(guided, noise, self.sampling, places)
        first = places < self.per_frame
        if self.first_sampling is None or not bool(first.any()):
            return drawn
        return draw(guided, noise, self.first_sampling, places).where(first, drawn)

    def _record(self, logits: Tensor, index: Tensor, accepted: Tensor) -> None:
        """Keep log p of the codes that have become final."""
        row, column = accepted.nonzero(as_tuple=True)
        place = index[row, column]
        code = self.cache.codes[row, place]
        sides = 2 if self.num_led else 1
        rows = logits.view(-1, *index.shape, logits.shape[-1])[:sides]
        chosen = rows[:, row, column].float().log_softmax(-1)  # side, code that became final, codebook
        drawn = chosen.gather(2, code.expand(sides, -1)[..., None])
        self.log_probs[:sides, row, place] = drawn[..., 0].double()


def _codes_needed(order: Tensor, per_frame: int) -> list[int]:
    """For each latent frame, earliest first, how many codes of the order it and all before it take."""
    last = {}
    for number, frame in enumerate((order // per_frame).tolist()):
        last[frame] = number + 1
    needed = [last[frame] for frame in sorted(last)]
    return list(itertools.accumulate(needed, max))
