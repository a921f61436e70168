"""Codes in, text out: what a clip shows, said or scored in Russian (RuDOLPH's idea, in time).

The right text of the strip is text as any other, and the codes before it are all that it may look at, with a
question on the left if there is one.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.errors import ConfigError, PromptError, require
from kinolenta.kernels.attention import Causal
from kinolenta.kernels.inference import inference
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.layout import Strip
from kinolenta.transformer.sliding import window_times

ROWS = 16  # texts side by side; each holds keys and values of its clip
WIDTH = 4  # texts that a search follows


class Reading:
    """A batch of clips that the transformer has seen, ready for texts about them."""

    @inference
    def __init__(
        self,
        model: GPT,
        codes: Tensor,
        left_text_ids: Sequence[Sequence[int]] | None = None,
        *,
        order: Tensor | None = None,
    ) -> None:
        """codes: whole clips [b, t, h, w] int64, or [b, n] as they stand in the order. left_text_ids: a
        question for each clip; None asks nothing. order: [n], the raster index of each code; None is frame
        after frame.

        Raises PromptError for texts and ShapeError for codes that the model does not take.
        """
        config, layout = model.config, model.layout
        left = [()] * len(codes) if left_text_ids is None else left_text_ids
        if order is None:
            given = layout.checked_codes(codes, len(left)).shape[1]
            order = layout.order(range(given // config.codes_per_frame))
        strip = layout.pack_prefill(left, codes, order).to(model.kind.device)
        self.model, self.clips, self.slots = model, len(codes), strip.token_ids.shape[1]
        shape = (config.n_layer, 2, self.clips, config.n_kv_head, self.slots, config.head_dim)
        self.memory = torch.zeros(shape, dtype=model.kind.dtype, device=model.kind.device)
        self.pad = strip.text_start
        model(strip, [(keys, values) for keys, values in self.memory.unbind()])

    @inference
    def log_probs(self, text_ids: Sequence[Sequence[int]], clips: Sequence[int]) -> Tensor:
        """log p(text, end | clip), nats, [n] float64: text number i is about clip number clips[i]."""
        require(
            len(text_ids) == len(clips) and all(0 <= clip < self.clips for clip in clips),
            PromptError,
            "{} texts are about the clips {}; name one of {} clips for each.",
            len(text_ids),
            list(clips),
            self.clips,
        )
        found = []
        for start in range(0, len(text_ids), ROWS):
            some = slice(start, start + ROWS)
            found.append(self._log_probs(text_ids[some], list(clips[some])))
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)

    @inference
    def write(self, max_tokens: int, width: int = WIDTH) -> list[list[int]]:
        """A text about each clip, at most max_tokens long, by beam search.

        width: texts that are followed side by side, until as many have ended; the one with the highest mean
        log p of its text_ids is returned (by the sum, texts that leave out what is hard to say would win).
        1 takes the likeliest text_id again and again.
        """
        require(max_tokens >= 1, ConfigError, "max_tokens is {}; it must be 1 or more.", max_tokens)
        require(width >= 1, ConfigError, "width is {}; it must be 1 or more.", width)
        return [self._search(clip, max_tokens, width) for clip in range(self.clips)]

    def _search(self, clip: int, max_tokens: int, width: int) -> list[int]:
        config, device = self.model.config, self.pad.device
        cache, pad = self._cache([clip] * width, max_tokens), self.pad[[clip] * width]
        token = torch.full((width,), config.eov_id, device=device)
        texts = torch.zeros(width, 0, dtype=torch.int64, device=device)
        score = torch.full((width, 1), -torch.inf, device=device)
        score[0] = 0  # at first there is one text, the empty one
        ended: list[tuple[float, list[int]]] = []
        for place in range(max_tokens):
            hidden = self._run(token[:, None], cache, place, pad)[:, -1]
            nats = self.model.text_logits(hidden).float().log_softmax(-1)
            nats[:, [config.bos_id, config.eot_id, config.eov_id, config.pad_id]] = -torch.inf
            sums, best = (score + nats).flatten().topk(2 * width)  # no more than half of them can end
            parents, tokens = best // nats.shape[1], best % nats.shape[1]
            ends = tokens == config.eos_id
            for rank in ends[:width].nonzero()[:, 0].tolist():
                ended.append((float(sums[rank]) / (place + 1), texts[parents[rank]].tolist()))
            if len(ended) >= width:
                break
            alive = (~ends).nonzero()[:width, 0]
            score, token, parent = sums[alive, None], tokens[alive], parents[alive]
            texts = torch.cat((texts[parent], token[:, None]), 1)
            for tensor in (tensor for layer in cache for tensor in layer):
                tensor[:, :, self.slots :] = tensor[parent, :, self.slots :]
        return max(ended)[1] if ended else texts[0].tolist()

    def _log_probs(self, text_ids: Sequence[Sequence[int]], clips: list[int]) -> Tensor:
        config, device = self.model.config, self.pad.device
        longest = max(len(ids) for ids in text_ids)
        tokens = torch.full((len(clips), longest + 2), config.pad_id)
        for row, ids in enumerate(text_ids):
            tokens[row, : len(ids) + 2] = torch.tensor([config.eov_id, *ids, config.eos_id])
        tokens = tokens.to(device)
        said = tokens[:, 1:] != config.pad_id
        hidden = self._run(tokens[:, :-1], self._cache(clips, longest + 1), 0, self.pad[clips])
        nats = self.model.text_logits(hidden[said]).float().log_softmax(-1)
        chosen = nats.gather(1, tokens[:, 1:][said][:, None])[:, 0].double()
        return torch.zeros(said.shape, dtype=torch.float64, device=device).masked_scatter(said, chosen).sum(1)

    def _cache(self, clips: list[int], more: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of these clips with room for more slots."""
        layers, _, _, heads, _, width = self.memory.shape
        room = self.memory.new_zeros(layers, 2, len(clips), heads, more, width)
        both = torch.cat((self.memory[:, :, clips], room), 4)
        return [(keys, values) for keys, values in both.unbind()]

    def _run(self, tokens: Tensor, cache: list[tuple[Tensor, Tensor]], place: int, pad: Tensor) -> Tensor:
        """Hidden states of right text [rows, n] that begins ``place`` slots after the codes."""
        model, n = self.model, tokens.shape[1]
        first = model.layout.text_slots + place
        places = torch.arange(first, first + n, device=tokens.device)
        positions = F.pad(places[:, None], (0, 3))[None]
        cos, sin = model.rotary(positions, positions)
        mask = Causal(start=self.slots + place, pad=pad)
        return model.run_blocks(model.embed_text(tokens), cos, sin, mask, cache)


def text_log_probs(model: GPT, text_ids: Sequence[Sequence[int]], codes: Tensor, first: int = 0) -> Tensor:
    """log p(text, end | clip), nats, [b] float64, one text for each clip [b, t, h, w].

    Of a clip longer than trained the mean over windows, each with the first latent frame and later ones in a
    row, that together hold all latent frames from number ``first`` on. Raises what ``Reading`` does.
    """
    trained, frames = model.config.grid[0], codes.shape[1]
    if frames <= trained:
        return Reading(model, codes).log_probs(text_ids, range(len(codes)))
    ends = [*range(trained - 1, frames - 1, trained - 1), frames - 1]
    found = []
    for end in (end for end in ends if end >= first):
        reading = Reading(model, codes, order=model.layout.order(window_times(end, trained)))
        found.append(reading.log_probs(text_ids, range(len(codes))))
    return torch.stack(found).mean(0)


@inference
def code_log_probs(
    model: GPT, text_ids: Sequence[Sequence[int]], codes: Tensor, order: Tensor | None = None
) -> Tensor:
    """log p(code | text, codes before it), nats, [b, t, h, w] float64; no guidance.

    codes: [b, t, h, w] int64, one clip for each text; of one longer than trained, the codes before are those
    that its window held when it was made. order: [n], the raster index of each code in the order in which
    they were drawn, of a clip longer than trained those of its beginning; None is frame after frame. Raises
    PromptError or ShapeError for bad input.
    """
    layout, trained, per_frame = model.layout, model.config.grid[0], model.config.codes_per_frame
    order = layout.beginning(order, min(trained, codes.shape[1]))
    found = []
    for start in range(0, len(codes), ROWS):
        texts, some = text_ids[start : start + ROWS], codes[start : start + ROWS]
        beginning = _strip_log_probs(model, layout.pack(texts, some, order=order))
        found.append([beginning[:, order.argsort()]])
        for t in range(trained, codes.shape[1]):
            strip = layout.pack(texts, some, order=layout.order(window_times(t, trained)))
            nats = _strip_log_probs(model, strip)[:, -per_frame:]
            found[-1].append(nats[:, layout.scan.argsort()])
    return torch.cat([torch.cat(row, 1) for row in found]).view(codes.shape)


def _strip_log_probs(model: GPT, strip: Strip) -> Tensor:
    """log p of every code of a strip, [b, num_codes] float64, in the strip's order."""
    strip = strip.to(model.kind.device)
    slots = model.layout.predicting_slots(strip)
    hidden = model(strip).gather(1, slots[..., None].expand(-1, -1, model.config.d_model))
    nats = model.code_logits(hidden).float().log_softmax(-1)
    return nats.gather(2, model.layout.codes(strip)[..., None])[..., 0].double()
