"""The strip: where text and codes stand in one row of token_ids, and what that makes of each slot.

    <bos> left text <eot> | codes | <eov> right text <eos>

Codes stand frame after frame, each in the model's scan, or in any other order that the strip names: given
ones first, for instance, so that what follows may look at a last frame too. Every code keeps its true place
in time and space, by its raster index (t * height + h) * width + w.

The slot before the slot number i of the codes predicts code number i. In a model without a gap slot number i
holds code number i. With a gap the first ``gap`` slots do, and from then on slot i holds code i - gap: the
codes start again, and causal attention hides the ``gap`` codes before the one that is predicted.

Joint ids are 0..text_vocab_size-1 for text, then text_vocab_size + code. Everything here is arithmetic on
plain integers: which token, at which place, predicting what. Nothing is learned and nothing is drawn in this
module.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.errors import PromptError, ShapeError, require
from kinolenta.transformer.config import GPTConfig
from kinolenta.transformer.scan import frame_scan


@dataclass(frozen=True, eq=False, kw_only=True)
class Strip:
    """A batch of rows, each with its text and codes at its own slots and dead slots at one end.

    token_ids: [b, s] int64, joint ids, the pad id in dead slots. text_start [b]: slot of <bos>.
    code_start [b]: slot of the first code, one after <eot>. length [b]: one after the last live slot.
    num_codes: codes in every row; num_slots: the slots that they take, from code_start on.
    order: [b, n] int64, the raster index of each code in turn, and of those still to come if n is more than
    num_codes.
    """

    token_ids: Tensor
    text_start: Tensor
    code_start: Tensor
    length: Tensor
    num_codes: int
    num_slots: int
    order: Tensor

    def rows(self, rows: slice | list[int]) -> "Strip":
        """Some of the rows."""
        return self._each(lambda tensor: tensor[rows])

    def since(self, slot: int) -> "Strip":
        """Without the slots before this one, which are dead in all rows."""
        return replace(
            self,
            token_ids=self.token_ids[:, slot:],
            text_start=self.text_start - slot,
            code_start=self.code_start - slot,
            length=self.length - slot,
        )

    def to(self, device: torch.device | str) -> "Strip":
        """The same strip on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def raster(self, numbers: Tensor) -> Tensor:
        """Raster index of a row's code by its number [b, n]; for numbers that have none, any index."""
        return self.order.gather(1, numbers.clamp(0, self.order.shape[1] - 1))

    def numbers(self, raster: Tensor) -> Tensor:
        """Which code of its row stands at each raster index [b, n]; -1 for none, or below 0."""
        most = int(torch.maximum(self.order.max(), raster.max())) + 1
        numbers = raster.new_full((len(raster), most), -1)
        counted = torch.arange(self.order.shape[1], device=raster.device)
        numbers.scatter_(1, self.order, counted.expand_as(self.order))
        return numbers.gather(1, raster.clamp(min=0)).where(raster >= 0, -1)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Strip":
        return replace(
            self,
            token_ids=change(self.token_ids),
            text_start=change(self.text_start),
            code_start=change(self.code_start),
            length=change(self.length),
            order=change(self.order),
        )


class Unpacked(NamedTuple):
    """Left texts, codes [b, num_codes] as they stand, and right texts (None if a row ends with its codes)."""

    left: list[list[int]]
    codes: Tensor
    right: list[list[int] | None]


class SequenceLayout:
    """Packs text_ids and codes into strips and back, for the sizes of one configuration."""

    def __init__(self, config: GPTConfig) -> None:
        self.config = config
        self.text_slots = config.text_len + 2  # with <bos> and <eot>
        self.scan = frame_scan(config.scan, *config.grid[1:])

    def order(self, times: Iterable[int]) -> Tensor:
        """Raster indices of the codes of these latent frames as they are drawn, frame after frame, [n]."""
        listed = torch.tensor([*times], dtype=torch.int64)
        return (listed[:, None] * self.config.codes_per_frame + self.scan).flatten()

    def pack(
        self,
        text_ids: Sequence[Sequence[int]],
        codes: Tensor | None = None,
        right_text_ids: Sequence[Sequence[int] | None] | None = None,
        order: Tensor | None = None,
    ) -> Strip:
        """Rows without gaps, dead slots at the right end only: plain causal attention serves for training.

        codes: [b, n] int64 as they stand, or clips [b, t, h, w], of which those are taken that order names.
        right_text_ids: per row a text, or None to end the row with its codes.
        order: [b, m] or [m], see Strip; None is frame after frame, as many codes as there are and the next.
        Raises PromptError for a bad text, ShapeError for codes of wrong size or value.
        """
        if order is None:
            given = self.checked_codes(codes, len(text_ids)).shape[1]
            order = self.order(range(given // self.config.codes_per_frame + 1))
        flat = self.standing(codes, order, len(text_ids))
        config, num_codes = self.config, flat.shape[1]
        num_slots = self.slots_of(num_codes)
        held = flat[:, self.held(torch.arange(num_slots))] + config.text_vocab_size
        heads = [[config.bos_id, *self._checked_text(ids), config.eot_id] for ids in text_ids]
        rights = [None] * len(text_ids) if right_text_ids is None else list(right_text_ids)
        require(len(rights) == len(heads), ShapeError, "{} left texts, {} right.", len(heads), len(rights))
        tails = [
            [] if ids is None else [config.eov_id, *self._checked_text(ids, limited=False), config.eos_id]
            for ids in rights
        ]
        lengths = [len(head) + num_slots + len(tail) for head, tail in zip(heads, tails, strict=True)]
        token_ids = torch.full((len(heads), max(lengths)), config.pad_id)
        for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
            stop = len(head) + num_slots
            token_ids[row, : len(head)] = torch.tensor(head)
            token_ids[row, len(head) : stop] = held[row]
            token_ids[row, stop : stop + len(tail)] = torch.tensor(tail, dtype=torch.int64)
        return Strip(
            token_ids=token_ids,
            text_start=torch.zeros(len(heads), dtype=torch.int64),
            code_start=torch.tensor([len(head) for head in heads]),
            length=torch.tensor(lengths),
            num_codes=num_codes,
            num_slots=num_slots,
            order=order.expand(len(heads), -1),
        )

    def pack_prefill(
        self,
        text_ids: Sequence[Sequence[int]],
        known_codes: Tensor | None = None,
        order: Tensor | None = None,
    ) -> Strip:
        """Rows whose text ends at one fixed slot, dead slots on the left: no shape depends on a neighbour.

        known_codes, order: as in ``pack``.
        """
        packed = self.pack(text_ids, known_codes, order=order)
        token_ids = torch.full((len(text_ids), self.text_slots), self.config.pad_id)
        for row, ids in enumerate(text_ids):
            token_ids[row, self.text_slots - len(ids) - 2 :] = packed.token_ids[row, : len(ids) + 2]
        return Strip(
            token_ids=torch.cat((token_ids, packed.token_ids.gather(1, self.code_slots(packed))), 1),
            text_start=self.text_slots - packed.code_start,
            code_start=torch.full_like(packed.code_start, self.text_slots),
            length=torch.full_like(packed.code_start, self.text_slots + packed.num_slots),
            num_codes=packed.num_codes,
            num_slots=packed.num_slots,
            order=packed.order,
        )

    def unpack(self, strip: Strip) -> Unpacked:
        """The inverse of both packs."""
        left, right = [], []
        for row, start, code_start, length in zip(
            strip.token_ids.tolist(),
            strip.text_start.tolist(),
            strip.code_start.tolist(),
            strip.length.tolist(),
            strict=True,
        ):
            stop = code_start + strip.num_slots
            left.append(row[start + 1 : code_start - 1])
            right.append(row[stop + 1 : length - 1] if stop < length else None)
        return Unpacked(left, self.codes(strip), right)

    def codes(self, strip: Strip) -> Tensor:
        """The codes of a strip in its order, [b, num_codes]: of those that stand twice the second time."""
        slots = self.code_slots(strip)[:, strip.num_slots - strip.num_codes :]
        return strip.token_ids.gather(1, slots) - self.config.text_vocab_size

    def with_codes(self, strip: Strip, codes: Tensor) -> Strip:
        """The same strip with other codes [b, num_codes] in its order."""
        slots = self.code_slots(strip)
        held = codes[:, self.held(torch.arange(strip.num_slots, device=codes.device))]
        token_ids = strip.token_ids.scatter(1, slots, held + self.config.text_vocab_size)
        return replace(strip, token_ids=token_ids)

    def slots_of(self, num_codes: int) -> int:
        """How many slots hold so many codes."""
        return num_codes if num_codes < self.config.gap else num_codes + self.config.gap

    def held(self, slots: Tensor) -> Tensor:
        """Number of the code that each slot of the codes holds, by the slot's number."""
        return slots.where(slots < self.config.gap, slots - self.config.gap)

    def seen(self, numbers: Tensor) -> Tensor:
        """How many codes, the first of the order, a code looks at, by its number."""
        gap = self.config.gap
        return numbers.where(numbers <= gap, (numbers - gap).clamp(min=gap))

    def code_slots(self, strip: Strip) -> Tensor:
        """The slots that hold codes, [b, num_slots]."""
        return strip.code_start[:, None] + torch.arange(strip.num_slots, device=strip.code_start.device)

    def predicting_slots(self, strip: Strip) -> Tensor:
        """For every code the slot that predicts it, [b, num_codes]."""
        return strip.code_start[:, None] - 1 + torch.arange(strip.num_codes, device=strip.code_start.device)

    def slot_index(self, strip: Strip) -> Tensor:
        """Number of each slot among those of the codes, [b, s]; none of them below 0 or from num_slots on."""
        slots = torch.arange(strip.token_ids.shape[1], device=strip.code_start.device)
        return slots - strip.code_start[:, None]

    def positions(self, strip: Strip) -> tuple[Tensor, Tensor]:
        """Places (s, t, h, w) of all slots, as keys and as queries, two tensors [b, s, 4].

        Text counts on s with (t, h, w) = 0, codes count on (t, h, w) with s = 0. The right text goes on after
        text_len + 2, wherever the left one ended. As a query a code stands in raster order one place
        before the one it predicts: what lies around that is the same way off, in whichever order they follow.
        """
        index = self.slot_index(strip)
        is_code = (index >= 0) & (index < strip.num_slots)
        left = (index + (strip.code_start - strip.text_start)[:, None]).clamp(min=0)
        right = index - strip.num_slots + self.text_slots
        order = torch.where(index < 0, left, right).masked_fill(is_code, 0)
        places = self.places(strip.raster(self.held(index))) * is_code[..., None]
        target, _ = self.targets(strip)
        aims = torch.where((is_code & (target >= 0))[..., None], self.places(target - 1), places)
        return torch.cat((order[..., None], places), -1), torch.cat((order[..., None], aims), -1)

    def targets(self, strip: Strip) -> tuple[Tensor, Tensor]:
        """What each slot predicts and what stood there before: two int64 tensors [b, s].

        First the raster index of the code that the slot predicts, from <eot> to the last slot of the codes,
        -1 elsewhere. The last slots too have next places, whether or not the strip goes there: it may end a
        known beginning.
        Then the code one frame before that place, or codebook_size if the slot does not see it.
        """
        number, per_frame = self.slot_index(strip) + 1, self.config.codes_per_frame
        limit = min(strip.num_slots, strip.order.shape[1] - 1)
        target = strip.raster(number).where((number >= 0) & (number <= limit), -1)
        before = strip.numbers(target - per_frame)
        codes = F.pad(self.codes(strip), (0, 1), value=self.config.codebook_size)
        earlier = codes.gather(1, before.clamp(0, strip.num_codes))
        known = (target >= per_frame) & (before >= 0) & (before < self.seen(number))
        return target, earlier.where(known, self.config.codebook_size)

    def places(self, code_index: Tensor) -> Tensor:
        """Grid place (t, h, w) of raster indices, [..., 3]."""
        _, height, width = self.config.grid
        t = code_index.div(height * width, rounding_mode="floor")
        row = code_index.div(width, rounding_mode="floor") % height
        return torch.stack((t, row, code_index % width), -1)

    def beginning(self, order: Tensor | None, num_latent_frames: int) -> Tensor:
        """An order of the codes of the first so many latent frames; the usual one if it is None.

        Raises ShapeError if it names others, or not all of them once.
        """
        usual = self.order(range(num_latent_frames))
        require(
            order is None or torch.equal(order.cpu().sort().values, usual.sort().values),
            ShapeError,
            "order must name every code of the first {} latent frames once.",
            num_latent_frames,
        )
        return usual if order is None else order.cpu()

    def standing(self, codes: Tensor | None, order: Tensor, batch: int) -> Tensor:
        """Codes as they stand in a strip of this order [b, m] or [m], [b, n] on the CPU.

        codes: as they stand already, or clips [b, t, h, w], of which the order may take some.
        Raises ShapeError for wrong size or value.
        """
        flat = self.checked_codes(codes, batch)
        taken = order.expand(batch, -1)[:, : flat.shape[1]]
        if codes is not None and codes.ndim == 4:
            require(
                bool((taken < flat.shape[1]).all()),
                ShapeError,
                "the order names codes beyond the {} latent frames that are given.",
                codes.shape[1],
            )
            return flat.gather(1, taken)
        require(
            flat.shape[1] == taken.shape[1],
            ShapeError,
            "{} codes are known but the clip has {}.",
            flat.shape[1],
            order.shape[-1],
        )
        return flat

    def _checked_text(self, text_ids: Sequence[int], limited: bool = True) -> Sequence[int]:
        config = self.config
        require(
            not limited or len(text_ids) <= config.text_len,
            PromptError,
            "text is {} text_ids; this model takes {}. Shorten it.",
            len(text_ids),
            config.text_len,
        )
        require(
            not len(text_ids) or 0 <= min(text_ids) <= max(text_ids) < config.text_vocab_size,
            PromptError,
            "text_ids must lie in 0..{}; the tokenizer and the transformer are not of one model.",
            config.text_vocab_size - 1,
        )
        return text_ids

    def checked_codes(self, codes: Tensor | None, batch: int) -> Tensor:
        """Codes as [b, n] on the CPU; none are [b, 0]. Raises ShapeError for wrong size or value."""
        if codes is None:
            return torch.zeros(batch, 0, dtype=torch.int64)
        require(
            isinstance(codes, Tensor), ShapeError, "codes must be a tensor; got {!r}.", type(codes).__name__
        )
        require(
            codes.ndim in (2, 4) and codes.shape[0] == batch and codes.dtype == torch.int64,
            ShapeError,
            "codes are {} {}; expected int64 [{}, n] or [{}, t, h, w], a row for each text.",
            codes.dtype,
            list(codes.shape),
            batch,
            batch,
        )
        require(
            codes.ndim == 2 or tuple(codes.shape[2:]) == tuple(self.config.grid[1:]),
            ShapeError,
            "codes have frames of {}; this model has {}.",
            list(codes.shape[2:]),
            list(self.config.grid[1:]),
        )
        flat = codes.flatten(1).cpu()
        require(
            not flat.numel() or (int(flat.min()) >= 0 and int(flat.max()) < self.config.codebook_size),
            ShapeError,
            "codes must lie in 0..{}; the codebook and the transformer are not of one model.",
            self.config.codebook_size - 1,
        )
        return flat
