"""The transformer's parts: attention, feed-forward, and tables in which related codes share parameters.

Products take all slots of a batch as rows of one matrix, which is what they are, and views are cut with
narrow: a pass of cached decoding is so small that every further call would be felt.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinolenta.kernels.attention import Causal, attention
from kinolenta.kernels.decode import decode_attention
from kinolenta.transformer.config import GPTConfig
from kinolenta.transformer.rotary import rotate

INIT_STD = 0.02


class LayerNorm(nn.LayerNorm):
    """Layer norm without bias. Not RMSNorm, since PyTorch fuses this one on CPUs: 4 times faster to train."""

    def __init__(self, width: int) -> None:
        super().__init__(width, bias=False)


class Attention(nn.Module):
    """Causal attention with rotary positions and normalised queries and keys.

    The norms are after Dehghani et al. 2023, arXiv:2302.05442, section 2. One norm serves q and k of all
    heads, since only the product of their gains enters a score.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head = config.n_head, config.n_kv_head
        width = (config.n_head + 2 * config.n_kv_head) * config.head_dim
        self.qkv = nn.Linear(config.d_model, width, bias=False)
        self.qk_norm = LayerNorm(config.head_dim)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, cache: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """x [b, n, d_model]; cache: keys and values [b, h_kv, slots, d], filled from slot mask.start on."""
        batch, n, width = x.shape
        n_qk = self.n_head + self.n_kv_head
        qkv = self.qkv(x.reshape(-1, width)).view(batch, n, n_qk + self.n_kv_head, -1)
        qk = rotate(self.qk_norm(qkv.narrow(2, 0, n_qk)), cos, sin).transpose(1, 2)  # b h n d
        q, k = qk.narrow(1, 0, self.n_head), qk.narrow(1, self.n_head, self.n_kv_head)
        v = qkv.narrow(2, n_qk, self.n_kv_head).transpose(1, 2).to(q.dtype)
        if cache is None:
            attended = attention(q, k, v, mask=mask)
        else:
            attended = decode_attention(q, k, v, cache, mask=mask)
        return self.out(attended.transpose(1, 2).reshape(batch * n, -1)).view(x.shape)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202): one product makes gate and value."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate_value = self.up(x.reshape(-1, x.shape[-1]))
        half = gate_value.shape[-1] // 2
        gated = self.gated(gate_value.narrow(-1, 0, half), gate_value.narrow(-1, half, half))
        return self.down(gated).view(x.shape)

    def gated(self, gate: Tensor, value: Tensor) -> Tensor:
        return F.silu(gate) * value


class Block(nn.Module):
    """Pre-norm residual layer; its output projections start at zero, so that a new block is the identity."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.d_model)
        self.attention = Attention(config)
        self.feed_forward_norm = LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config)
        for linear in (self.attention.qkv, self.feed_forward.up):
            nn.init.normal_(linear.weight, std=INIT_STD)
        for linear in (self.attention.out, self.feed_forward.down):
            nn.init.zeros_(linear.weight)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, cache: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class CodeTable(nn.Module):
    """A vector for every code: its own, plus one for each of its digits.

    Codes of a finite scalar quantizer are numbers in a mixed radix: digit j of a code is
    (code // prod(levels[:j])) % levels[j]. What codes share is learned once.
    """

    digit_bits: Tensor

    def __init__(self, codebook_size: int, levels: tuple[int, ...], width: int, std: float) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.randn(codebook_size, width) * std)
        self.by_digit = nn.Parameter(torch.randn(sum(levels), width) * std) if levels else None
        codes = torch.arange(codebook_size)
        digits = [codes // math.prod(levels[:j]) % level for j, level in enumerate(levels)]
        bits = [F.one_hot(digit, level) for digit, level in zip(digits, levels, strict=True)]
        one_hot = torch.cat(bits, 1).float() if levels else torch.zeros(codebook_size, 0)
        self.register_buffer("digit_bits", one_hot, persistent=False)

    def forward(self) -> Tensor:
        """The whole table, [codebook_size, width]; a small matrix product, cheaper than gathers per token."""
        return self.own if self.by_digit is None else self.own + self.digit_bits @ self.by_digit
