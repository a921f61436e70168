"""What a query may see, said in a few numbers: every backend turns the same description into its own mask.

A description instead of a mask tensor, so that a fused kernel can do the arithmetic on positions and skip
whole blocks.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Causal:
    """Query i stands at slot ``start + i`` and sees the slots j with ``pad[b] <= j <= start + i``.

    start: slot of the first query; 0 with as many queries as keys is plain causal attention.
    pad: [b] int64, number of dead slots at the start of each row (left-padded text); None means none.
    A query that itself stands in a dead slot sees only itself, so that its output is finite; nobody reads it.
    """

    start: int = 0
    pad: Tensor | None = None
    _visible: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False)

    def is_plain(self, n: int, s: int) -> bool:
        """Whether this is causal attention of n queries over exactly the same n slots, none of them dead."""
        return self.pad is None and self.start == 0 and n == s

    def visible(self, n: int, s: int, device: torch.device) -> Tensor:
        """The mask written out: bool [b or 1, 1, n, s], True where query i sees slot j.

        Remembered, because all layers of one pass share one description.
        """
        if (n, s) not in self._visible:
            queries = torch.arange(self.start, self.start + n, device=device)[:, None]
            slots = torch.arange(s, device=device)
            visible = (slots <= queries)[None, None]
            if self.pad is not None:
                visible = visible & (slots >= self.pad[:, None, None, None]) | (slots == queries)
            self._visible[n, s] = visible
        return self._visible[n, s]
