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

from kinolenta.transformer.cache import KVCache, decode_window, own_windows, windows
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.noise import NoiseWindow
from kinolenta.transformer.sampler import SamplingConfig, draw
from kinolenta.transformer.window import Window

FEED = 32  # known codes a pass


class FixedPoint:
    """State of a batch of clips that are drawn side by side, each at its own pace.

    done: leading codes of each clip that are final. settled: leading slots of the codes whose keys and values
    are final; the next window begins there, one before ``done``. drafted: leading codes that are final or
    have a draft. These are numbers of the host. log_probs [2, b, num_codes]: with text and without.
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
        window: Window,
        least: int = 1,
    ) -> None:
        """logits: what ``prefill`` returns for this order. The first num_known codes stand in ``cache.codes``
        already.

        streams: (seed, candidate) of each clip. first_sampling: of the first latent frame, if otherwise.
        led: [n] bool, the codes that guidance leads; if there are any, each clip has a second row in the
        cache, until they are final. window: how many drafts a pass looks at; a fixed 1 draws the codes one by
        one.
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
        self.window = window
        self.slots_of = model.layout.slots_of
        self.per_frame = model.config.codes_per_frame
        self.needed = _codes_needed(order, self.per_frame)
        self.passes = 1
        self.log_probs = torch.zeros(2, batch, self.num_codes, dtype=torch.float64, device=logits.device)
        noisy = sampling.temperature > 0 or (first_sampling is not None and first_sampling.temperature > 0)
        self.noise = (
            NoiseWindow(streams, model.config.codebook_size, window.most(batch), self.order)
            if noisy
            else None
        )
        self.done = [num_known] * batch
        self.settled = [max(0, num_known - 1)] * batch
        self.drafted = list(self.done)
        if num_known == 0:
            cache.codes[:, :1] = self._draw(logits[:, None], [0] * batch)
            self._record(logits[:, None], [0] * batch, [1] * batch)
            self.done, self.drafted = [1] * batch, [1] * batch
        for begin in range(0, num_known - 1, FEED):
            decode_window(model, cache, [begin] * batch, min(FEED, num_known - 1 - begin))
            self.passes += 1

    def run(self) -> Iterator[int]:
        """Draw all codes; yields how many latent frames of every clip are final whenever there are more."""
        complete = 0
        while True:
            done, before = min(self.done), complete
            while complete < len(self.needed) and self.needed[complete] <= done:
                complete += 1
            if complete > before:
                yield complete
            if done == self.num_codes:
                return
            self._pass()

    def _pass(self) -> None:
        if self.num_led and min(self.done) >= self.num_led:
            self._end_guidance()
        codes, rows, last = self.cache.codes, len(self.cache.pad), self.num_codes - 1
        n = self.window.length(rows, last - min(self.settled))
        starts = [min(settled, last - n) for settled in self.settled]
        firsts = [start + 1 for start in starts]  # of the codes drawn in this pass
        self._draft(firsts, n)
        hidden = decode_window(self.model, self.cache, starts, n)
        self.passes += 1
        logits = self.cache.head(hidden)
        drafts = own_windows(codes, firsts, n)
        drawn = self._draw(logits, firsts)
        final = [done - first for done, first in zip(self.done, firsts, strict=True)]
        if any(count > 0 for count in final):  # looked at again, because the clip ends or another is behind
            column = torch.arange(n, device=drawn.device)
            drawn = drafts.where(column < torch.tensor(final, device=drawn.device)[:, None], drawn)
        held = self._held(drawn, drafts)
        done_now, open_drafts = [], []
        for row, (first, repeated) in enumerate(zip(firsts, held, strict=True)):
            codes[row, first : first + n] = drawn[row]
            agree = repeated.index(False) if False in repeated else n
            self.settled[row] = min(self.slots_of(first + agree), first + n - 1)
            done = max(self.settled[row] + 1, min(self.done[row] + self.least, first + n))
            done_now.append(min(done, self.num_codes))
            if done < self.num_codes:
                open_drafts.append(repeated if agree == n else repeated[agree + 1 :])
        self.window.look(open_drafts, rows)
        self._record(logits, firsts, done_now)
        self.done = done_now

    def _held(self, drawn: Tensor, drafts: Tensor) -> list[list[bool]]:
        """Which codes [b, n] are what was drafted."""
        held: list[list[bool]] = (drawn == drafts).tolist()
        return held

    def _end_guidance(self) -> None:
        """The rows without text are dropped."""
        self.num_led = 0
        self.cache = self.cache.first_copies()

    def _draft(self, firsts: list[int], n: int) -> None:
        """A place that is looked at for the first time gets the code one frame earlier, or the last one."""
        for row, (first, begin) in enumerate(zip(firsts, self.drafted, strict=True)):
            if begin < first + n:
                codes, new = self.cache.codes[row], slice(begin, first + n)
                earlier = self.cache.history[row].index_select(0, self.cache.earlier[new])
                known = earlier < self.model.config.codebook_size
                codes[new] = earlier.where(known, codes[begin - 1])
                self.drafted[row] = first + n

    def _draw(self, logits: Tensor, firsts: list[int]) -> Tensor:
        """Codes [b, n] number first .. first + n - 1 from logits [rows, n, codebook_size]."""
        batch, n = len(firsts), logits.shape[1]
        guided = logits[:batch].float()
        if self.num_led:
            unconditional, led = logits[batch:].float(), windows(self.led, firsts, n)[..., None]
            guided = (unconditional + self.guidance_scale * (guided - unconditional)).where(led, guided)
        noise = None if self.noise is None else self.noise.at(firsts, n)
        places = windows(self.order, firsts, n)
        drawn = draw(guided, noise, self.sampling, places)
        if self.first_sampling is None:
            return drawn
        first = places < self.per_frame
        if not bool(first.any()):
            return drawn
        return draw(guided, noise, self.first_sampling, places).where(first, drawn)

    def _record(self, logits: Tensor, firsts: list[int], done: list[int]) -> None:
        """Keep log p of the codes of each clip that have become final."""
        sides = 2 if self.num_led else 1
        rows = logits.view(-1, len(firsts), *logits.shape[1:])[:sides]
        for row, (first, begin, end) in enumerate(zip(firsts, self.done, done, strict=True)):
            if begin < end:
                chosen = rows[:, row, begin - first : end - first].float().log_softmax(-1)
                code = self.cache.codes[row, begin:end].expand(sides, -1)[..., None]
                self.log_probs[:sides, row, begin:end] = chosen.gather(2, code)[..., 0].double()


def _codes_needed(order: Tensor, per_frame: int) -> list[int]:
    """For each latent frame, earliest first, how many codes of the order it and all before it take."""
    last = {}
    for number, frame in enumerate((order // per_frame).tolist()):
        last[frame] = number + 1
    needed = [last[frame] for frame in sorted(last)]
    return list(itertools.accumulate(needed, max))
