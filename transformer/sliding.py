"""Clips longer than the model was trained on: a window slides over the codes, one latent frame at a time.

The window holds the text, the first latent frame, which keeps thing and place, and the latest ones; every
code has its true place in time, so nothing jumps where the window moves. What has left the window is
forgotten, so memory and the cost of a frame do not grow with the clip. Training shows the model such windows
at random times (``kinolenta.training.rows``, task "later").
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from kinolenta.errors import ConfigError, require
from kinolenta.transformer.generate import MAX_LATENT_FRAMES, Generated, Generation, standing_known
from kinolenta.transformer.gpt import GPT


def window_times(t: int, frames: int) -> list[int]:
    """The latent frames of the window that ends with t: the first and those before t, ``frames`` in all."""
    return [0, *range(t - frames + 2, t + 1)]


class SlidingGeneration:
    """A generation of more latent frames than trained, with the interface of ``Generation``."""

    def __init__(
        self,
        model: GPT,
        text_ids: Sequence[Sequence[int]],
        *,
        num_latent_frames: int,
        known_codes: Tensor | None = None,
        order: Tensor | None = None,
        guided_latent_frames: int | None = None,
        **options: Any,
    ) -> None:
        """known_codes: [b, k] int64, the first k codes of every clip; or a beginning, [b, t, h, w].
        order: of the codes of the beginning, as long as trained, see ``generate``; later frames follow as
        ever. options: as in ``generate``. Raises what ``Generation`` does, before anything is drawn.
        """
        config = model.config
        self.model, self.text_ids, self.options = model, text_ids, options
        self.trained, self.per_frame = config.grid[0], config.codes_per_frame
        require(
            self.trained < num_latent_frames <= MAX_LATENT_FRAMES,
            ConfigError,
            "num_latent_frames is {}; a window slides over {}..{}.",
            num_latent_frames,
            self.trained + 1,
            MAX_LATENT_FRAMES,
        )
        require(self.trained > 1, ConfigError, "a model of single frames cannot make longer clips.")
        self.num_latent_frames = num_latent_frames
        layout = model.layout
        order = layout.beginning(order, self.trained)
        whole = torch.cat((order, layout.order(range(self.trained, num_latent_frames))))
        self.known = standing_known(layout, known_codes, whole, len(text_ids))
        self.codes = torch.zeros(len(text_ids), 0, *config.grid[1:], dtype=torch.int64)
        self.log_prob = torch.zeros(len(text_ids), dtype=torch.float64)
        self.log_prob_uncond: Tensor | None = torch.zeros_like(self.log_prob)
        self.passes = 0
        known = self.known[:, : self.trained * self.per_frame]
        self._guided_left = guided_latent_frames
        self._beginning = self._generation(known, order)

    def frames(self) -> Iterator[tuple[int, Tensor]]:
        """(t, codes [b, t + 1, h, w]) for every latent frame as soon as all clips have it."""
        yield from self._beginning.frames()
        self._add(self._beginning.result(), self.trained)
        for t in range(self.trained, self.num_latent_frames):
            known = self.known[:, t * self.per_frame : (t + 1) * self.per_frame]
            if known.shape[1] == self.per_frame:
                raster = known[:, self.model.layout.scan.argsort()]
                self.codes = torch.cat((self.codes, raster.view_as(self.codes[:, -1:])), 1)
            else:
                self._add(self._slide(t, known), 1)
            yield t, self.codes

    def result(self) -> Generated:
        """The clips, when ``frames`` is exhausted."""
        return Generated(self.codes, self.log_prob, self.log_prob_uncond, self.passes)

    def _slide(self, t: int, known: Tensor) -> Generated:
        """The window whose last latent frame is t, drawn but for these first codes of it."""
        layout, times = self.model.layout, window_times(t, self.trained)
        before = layout.standing(self.codes, layout.order(times[:-1]), len(self.codes))
        generation = self._generation(torch.cat((before, known), 1), layout.order(times))
        for _ in generation.frames():
            pass
        return generation.result()

    def _generation(self, known: Tensor, order: Tensor) -> Generation:
        """Guidance leads as many latent frames as are left to it, and so many fewer are left."""
        left = self._guided_left
        if isinstance(left, int):
            drawn = len((order[known.shape[1] :] // self.per_frame).unique())
            self._guided_left = max(0, left - drawn)
        return Generation(
            self.model,
            self.text_ids,
            known_codes=known,
            order=order,
            guided_latent_frames=left,
            **self.options,
        )

    def _add(self, made: Generated, frames: int) -> None:
        self.codes = torch.cat((self.codes, made.codes[:, -frames:].cpu()), 1)
        self.log_prob = self.log_prob + made.log_prob.cpu()
        if made.log_prob_uncond is None or self.log_prob_uncond is None:
            self.log_prob_uncond = None
        else:
            self.log_prob_uncond = self.log_prob_uncond + made.log_prob_uncond.cpu()
        self.passes += made.passes
