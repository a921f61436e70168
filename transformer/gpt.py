"""The GPT: a strip of text and codes in, logits of the next code (or right text) out.

Its input at each slot already says where the next code will stand and what stood there one frame earlier;
both are known before the code is drawn, in training and in decoding alike.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinolenta.kernels.attention import Causal
from kinolenta.transformer.blocks import INIT_STD, Block, CodeTable, LayerNorm
from kinolenta.transformer.config import GPTConfig
from kinolenta.transformer.layout import SequenceLayout, Strip
from kinolenta.transformer.rotary import rotary_frequencies, rotary_tables


class CodeInputs(NamedTuple):
    """Everything that the embedding of a code slot adds up; made once a pass, or once a clip when decoding.

    code [codebook_size, d]: the code at the slot.
    previous [codebook_size + 1, d]: the code one frame before the target place; last row, zero, for none.
    place [t * h * w + 1, d]: the target place; last row, zero, for none.
    """

    code: Tensor
    previous: Tensor
    place: Tensor


class GPT(nn.Module):
    """Decoder-only transformer with an embedding and a head per modality."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.layout = SequenceLayout(config)
        d_model, (frames, height, width) = config.d_model, config.grid
        self.text_table = nn.Parameter(torch.randn(config.text_vocab_size, config.text_dim) * INIT_STD)
        self.text_in = nn.Linear(config.text_dim, d_model, bias=False)
        self.text_out = nn.Linear(d_model, config.text_dim, bias=False)
        self.code_table = CodeTable(config.codebook_size, config.code_levels, d_model, INIT_STD)
        self.previous_in = nn.Linear(d_model, d_model, bias=False)
        self.kind = nn.Parameter(torch.randn(2, d_model) * INIT_STD)  # text, code
        self.place_t = nn.Parameter(torch.randn(frames, 1, 1, d_model) * INIT_STD)
        self.place_h = nn.Parameter(torch.randn(height, 1, d_model) * INIT_STD)
        self.place_w = nn.Parameter(torch.randn(width, d_model) * INIT_STD)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = LayerNorm(d_model)
        self.code_head = CodeTable(config.codebook_size, config.code_levels, d_model, 0.0)
        nn.init.zeros_(self.previous_in.weight)

    def forward(
        self,
        strip: Strip,
        cache: list[tuple[Tensor, Tensor]] | None = None,
        inputs: CodeInputs | None = None,
    ) -> Tensor:
        """Hidden states [b, s, d_model] of a whole strip.

        Dead slots may stand on the right, where causality hides them, or on the left, where a mask does.
        cache: keys and values per layer to fill from slot 0 on, see ``kinolenta.transformer.cache``.
        inputs: what ``code_inputs`` returns, if it is at hand.
        """
        cos, sin = self.rotary(*self.layout.positions(strip))
        plain = cache is None and not bool(strip.text_start.any())
        mask = Causal(pad=None if plain else strip.text_start)
        return self.run_blocks(self.embed(strip, inputs), cos, sin, mask, cache)

    def run_blocks(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, cache: list[tuple[Tensor, Tensor]] | None
    ) -> Tensor:
        """The stack of blocks and the last norm; cos and sin as ``rotary_tables`` makes them."""
        for index, block in enumerate(self.blocks):
            x = block(x, cos, sin, mask, None if cache is None else cache[index])
        return self.norm(x)

    def rotary(self, keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """``rotary_tables`` for the heads of queries and keys, [b, n, h + h_kv, head_dim].

        keys, queries: positions [b, n, 4]. Computed in float32, in the type of the weights.
        """
        config = self.config
        frequencies = rotary_frequencies(config.head_dim, config.rope_theta_text, config.rope_theta_grid)
        tables = rotary_tables(torch.stack((queries, keys), 2), frequencies.to(keys.device))  # b n 2 d
        shares = [0] * config.n_head + [1] * config.n_kv_head
        cos, sin = (table.to(self.kind.dtype)[:, :, shares] for table in tables)
        return cos, sin

    def embed(self, strip: Strip, inputs: CodeInputs | None = None) -> Tensor:
        """Input embeddings [b, s, d_model]."""
        inputs, vocab = inputs or self.code_inputs(), self.config.text_vocab_size
        is_text = strip.token_ids < vocab
        text = self.embed_text(strip.token_ids.where(is_text, 0))
        code = F.embedding((strip.token_ids - vocab).clamp(min=0), inputs.code)
        target, earlier = self.layout.targets(strip)
        place = F.embedding(self.place_rows(target), inputs.place)
        return torch.where(is_text[..., None], text, code) + place + F.embedding(earlier, inputs.previous)

    def embed_text(self, text_ids: Tensor) -> Tensor:
        """Input embeddings of text slots; all but <eot> are no more than this."""
        return self.text_in(F.embedding(text_ids, self.text_table)) + self.kind[0]

    def code_inputs(self) -> CodeInputs:
        """The tables that code slots look up; see CodeInputs."""
        table = self.code_table()
        none = table.new_zeros(1, table.shape[1])
        place = (self.place_t + self.place_h + self.place_w).flatten(0, 2)
        previous = self.previous_in(table).to(table.dtype)
        return CodeInputs(table + self.kind[1], torch.cat((previous, none)), torch.cat((place, none)))

    def place_rows(self, code_index: Tensor) -> Tensor:
        """Rows of ``CodeInputs.place`` for raster indices: t clipped as trained, last row if negative."""
        codes_per_frame, last = self.config.codes_per_frame, self.config.grid[0] * self.config.codes_per_frame
        clipped = code_index.where(code_index < last, last - codes_per_frame + code_index % codes_per_frame)
        return clipped.where(code_index >= 0, last)

    def code_logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., codebook_size] from hidden states of slots before a code."""
        return F.linear(hidden, self.code_head())

    def text_logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., text_vocab_size] from hidden states of slots before right text or <eos>."""
        return F.linear(self.text_out(hidden), self.text_table)
