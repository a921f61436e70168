"""The rows that the GPT learns from: one strip for every task, mixed in given shares.

    plain   caption | clip          or nothing | clip | caption
    ask     question | clip | answer
    given   caption | some of the clip | the rest of it
    later   caption | first latent frame | some later ones, at their true time
    glance  question | one latent frame, at its true time, or the clip | answer; the codes are not learned

A dropped caption (classifier-free guidance needs rows without one) moves to the right of the clip, so that
the same rows teach the model to describe what it sees. Given-first order follows CogVideo (Hong et al. 2022,
arXiv:2205.15868), where frames that are to be interpolated stand before those between them.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kinolenta.config import Config
from kinolenta.data.codes import Shard
from kinolenta.data.questions import Question
from kinolenta.errors import ConfigError, DataError, require
from kinolenta.tokenizer import TextTokenizer
from kinolenta.transformer import GPTConfig, SequenceLayout
from kinolenta.transformer.generate import MAX_LATENT_FRAMES
from kinolenta.transformer.layout import Strip
from kinolenta.transformer.scan import given_first

TASKS = ("plain", "ask", "given", "later")
SHOWN = {"what": 3, "background": 3, "count": 1, "colour": 1}  # what a single frame shows, and weights
MOVING = {"motion": 1, "where to": 1}  # what only the clip does
WANDERING_SHARE = 0.6  # of the draws for glances, where there are clips of wandering things


@dataclass(frozen=True, kw_only=True)
class MixtureConfig(Config):
    """Shares of the rows that are not plain, and the share of captions that move to the right of the clip.

    glances: rows of a single latent frame and a question about it, that many a step beside the batch. One
    costs less than a quarter of a clip's row, and what is seen at a glance is most of what there is to learn.
    Every other step, at random, shows whole clips instead, as many as cost the same.
    """

    ask: float = 0.0
    given: float = 0.0
    later: float = 0.0
    glances: int = 0
    caption_dropout: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.ask, self.given, self.later)
        require(
            min(shares) >= 0 and sum(shares) <= 1,
            ConfigError,
            "the shares ask, given and later must not be negative, nor more than 1 together; got {}, {}, {}.",
            *shares,
        )
        require(self.glances >= 0, ConfigError, "glances must not be negative; got {}.", self.glances)
        require(
            0 <= self.caption_dropout < 1,
            ConfigError,
            "caption_dropout must be in [0, 1); got {}.",
            self.caption_dropout,
        )


_Row: TypeAlias = tuple[list[int], Tensor, list[int] | None, Tensor]
"""Left text, codes as they stand, right text, and the raster index of each code."""


_Questions: TypeAlias = dict[str, list[Question]]
"""Of one clip, the wordings of each kind of question."""


class Rows:
    """Batches of a shard; batch number s depends on (seed, s) alone and every clip comes once an epoch."""

    def __init__(
        self,
        shard: Shard,
        tokenizer: TextTokenizer,
        config: GPTConfig,
        mixture: MixtureConfig,
        *,
        longer: Shard | None = None,
        wandering: Shard | None = None,
        seed: int = 0,
    ) -> None:
        """longer: clips of more latent frames than the model's, for rows of the task "later".

        wandering: clips that only glances look at, whose background and motion do not tell what the thing is.
        """
        self.tokenizer, self.config, self.mixture, self.seed = tokenizer, config, mixture, seed
        self.shard, self.longer, self.layout = shard, longer, SequenceLayout(config)
        self.texts = self._encoded(shard)
        self.longer_texts = [] if longer is None else self._encoded(longer)
        frames = config.grid[0]
        require(
            shard.codes.shape[1] == frames
            and (longer is None or longer.codes.shape[1] > frames)
            and (wandering is None or wandering.codes.shape[1] == frames),
            DataError,
            "the model takes {} latent frames; codes have {}, wandering_codes {} and long_codes {}.",
            frames,
            *("none" if given is None else given.codes.shape[1] for given in (shard, wandering, longer)),
        )

        self._questions = [_by_kind(about) for about in shard.questions]
        self._glanced = [(shard, self._questions)]
        if wandering is not None:
            self._glanced.append((wandering, [_by_kind(about) for about in wandering.questions]))
        for _, questions in self._glanced:
            require(
                mixture.glances == 0 or any(about.keys() & SHOWN.keys() for about in questions),
                DataError,
                "glances need questions about {}; the codes have none.",
                ", ".join(SHOWN),
            )

    def batch(self, step: int, size: int) -> Strip:
        """Rows of all tasks, drawn by the shares."""
        rng = random.Random(f"{self.seed}/{step}")
        mixture = self.mixture
        shares = (1 - mixture.ask - mixture.given - mixture.later, mixture.ask, mixture.given, mixture.later)
        tasks = rng.choices(TASKS, shares, k=size)
        dropped = [rng.random() < mixture.caption_dropout for _ in tasks]
        return self.strip(tasks, dropped, [self._number(step * size + i) for i in range(size)], rng)

    def glances(self, rng: random.Random, size: int, *, whole: bool | None = None) -> Strip:
        """Rows of the task "glance" about clips at random: single latent frames, or fewer rows of whole clips
        that cost as much; by coin unless ``whole`` says.
        """
        whole = rng.random() < 0.5 if whole is None else whole
        asked = SHOWN | MOVING if whole else SHOWN
        size = max(1, size // self.config.grid[0]) if whole else size
        rows: list[_Row] = []
        while len(rows) < size:
            shard, questions = self._glanced[-1 if rng.random() < WANDERING_SHARE else 0]
            number = rng.randrange(len(shard))
            kinds = [kind for kind in asked if kind in questions[number]]
            if kinds:
                [kind] = rng.choices(kinds, [asked[kind] for kind in kinds])
                text = self._question(questions[number], kind, rng)
                rows.append(self._glance(text, shard.codes[number].flatten(1), whole, rng))
        return self._packed(rows)

    def strip(
        self, tasks: Sequence[str], dropped: Sequence[bool], numbers: Sequence[int], rng: random.Random
    ) -> Strip:
        """A row for each task, with its caption on the right if dropped, about the clips of these numbers."""
        return self._packed([self._row(*row, rng) for row in zip(tasks, dropped, numbers, strict=True)])

    def _packed(self, rows: Sequence[_Row]) -> Strip:
        left, codes, right, order = zip(*rows, strict=True)
        return self.layout.pack(left, torch.stack(codes), right, torch.stack(order))

    def _row(self, task: str, dropped: bool, number: int, rng: random.Random) -> _Row:
        if task == "ask" and self._questions[number]:  # none about the film: such a row is a plain one
            about = self._questions[number]
            left, right = self._question(about, rng.choice(list(about)), rng)
            order = self.layout.order(range(self.config.grid[0]))
            return left, self.shard.codes[number].flatten()[order], right, order
        if task == "later":
            number %= len(self.longer_texts)
            text = rng.choice(self.longer_texts[number])
            codes, order = self._window(number, rng)
        else:
            text, codes = rng.choice(self.texts[number]), self.shard.codes[number].flatten()
            order = self.layout.order(range(self.config.grid[0]))
            order = self._given_first(order, rng) if task == "given" else order
            codes = codes[order]
        return ([] if dropped else text), codes, (text if dropped else None), order

    def _question(self, about: _Questions, kind: str, rng: random.Random) -> tuple[list[int], list[int]]:
        question = rng.choice(about[kind])
        left = self.tokenizer.encode(question.text, max_length=self.config.text_len, truncate=True)
        return left, self.tokenizer.encode(question.answer)

    def _glance(
        self, text: tuple[list[int], list[int]], codes: Tensor, whole: bool, rng: random.Random
    ) -> _Row:
        """The clip, or a later latent frame than the first: things may still have to come."""
        (left, right), frames = text, self.config.grid[0]
        first = 0 if whole else rng.randint(min(1, frames - 1), frames - 1)
        order = self.layout.order(range(first, frames if whole else first + 1))
        return left, codes.flatten()[order], right, order

    def _window(self, number: int, rng: random.Random) -> tuple[Tensor, Tensor]:
        """The first latent frame and some in a row, at their own time or, for what lasts, long after it."""
        assert self.longer is not None
        clip, frames = self.longer.codes[number].flatten(1), self.config.grid[0]
        first = rng.randint(1, len(clip) - frames + 1)
        times = [0, *range(first, first + frames - 1)]
        codes = clip.flatten()[self.layout.order(times)]
        if first >= frames and rng.random() < 0.5:
            delay = int(math.exp(rng.uniform(0, math.log(MAX_LATENT_FRAMES - times[-1]))))
            times[1:] = [time + delay - 1 for time in times[1:]]
        return codes, self.layout.order(times)

    def _given_first(self, order: Tensor, rng: random.Random) -> Tensor:
        """The order with those first that a prompt could name: key frames, the last most often, a rim, or the
        top of the first frame.
        """
        frames, height, width = self.config.grid
        given = torch.zeros(self.config.grid, dtype=torch.bool)
        kind = rng.choice(("last", "ends", "keys", "rim", "top"))
        if kind == "top":
            given[0, : rng.randint(1, max(1, height - 1))] = True
        elif kind == "rim":
            left, right, above, below = (rng.randint(0, 2) for _ in range(4))
            given[:] = True
            given[:, above : height - below, left : width - right] = False
        else:
            keys = rng.sample(range(frames), rng.randint(1, frames - 1)) if kind == "keys" else [frames - 1]
            given[[0, *keys] if kind == "ends" else keys] = True
        return given_first(order, given)

    def _encoded(self, shard: Shard) -> list[list[list[int]]]:
        length = self.config.text_len
        return [
            [self.tokenizer.encode(wording, max_length=length, truncate=True) for wording in wordings]
            for wordings in shard.captions
        ]

    def _number(self, draw: int) -> int:
        epoch, place = divmod(draw, len(self.shard))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._order = epoch, list(range(len(self.shard)))
            random.Random(f"{self.seed}/epoch/{epoch}").shuffle(self._order)
        return self._order[place]


def _by_kind(questions: Sequence[Question]) -> _Questions:
    """The wordings of each kind of question, so that a kind's share does not grow with their number."""
    found: _Questions = {}
    for question in questions:
        found.setdefault(question.kind, []).append(question)
    return found
