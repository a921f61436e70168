"""A third opinion: PyTorch's FlexAttention, with every mask written once more in its own terms."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from kinolenta.kernels.attention import Causal, Column, Mask, Neighbourhood, Prefix, Row, attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TEXT, HEIGHT, WIDTH, FRAMES = 13, 4, 6, 3
CODES = HEIGHT * WIDTH * FRAMES
SLOTS = TEXT + CODES
Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def sparse(near: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    def rule(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & ((query < TEXT) | (key < TEXT) | near(query - TEXT, key - TEXT))

    return rule


def in_window(query: Tensor, key: Tensor) -> Tensor:
    frame = HEIGHT * WIDTH
    rows = (query % frame) // WIDTH - (key % frame) // WIDTH
    columns = query % WIDTH - key % WIDTH
    return (query // frame - key // frame <= 1) & (rows * rows <= 1) & (columns * columns <= 4)


MASKS: dict[str, tuple[Mask, Rule]] = {
    "causal": (Causal(), lambda b, h, query, key: key <= query),
    "prefix": (Prefix(prefix=TEXT), lambda b, h, query, key: (key <= query) | (key < TEXT)),
    "row": (
        Row(code_start=TEXT, num_codes=CODES, width=WIDTH),
        sparse(lambda query, key: query <= key + WIDTH),
    ),
    "column": (
        Column(code_start=TEXT, num_codes=CODES, width=WIDTH),
        sparse(lambda query, key: query % WIDTH == key % WIDTH),
    ),
    "neighbourhood": (
        Neighbourhood(
            code_start=TEXT, num_codes=CODES, height=HEIGHT, width=WIDTH, window=(1, 1, 2)
        ),
        sparse(in_window),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", ["reference", "sdpa", "triton"])
@pytest.mark.parametrize("name", MASKS)
def test_flex_attention_agrees(name: str, backend: str) -> None:
    """Outputs only: on a CPU it has no backward pass."""
    mask, rule = MASKS[name]
    q, k, v = torch.randn(3, 2, 2, SLOTS, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE).unbind()
    blocks = create_block_mask(rule, None, None, SLOTS, SLOTS, device=DEVICE)
    expected = flex_attention(q, k, v, block_mask=blocks)
    got = attention(q, k, v, mask=mask, backend=backend)
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)
