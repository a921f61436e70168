"""A transformer small enough for tests, with every weight random, so that no part of it is idle."""

import torch
from torch import Tensor

from kinolenta.transformer import GPT, GPTConfig

SIZES = {
    "n_layer": 2,
    "n_head": 2,
    "n_kv_head": 2,
    "d_model": 32,
    "d_ff": 48,
    "text_vocab_size": 40,
    "text_dim": 12,
    "text_len": 9,
    "codebook_size": 60,
    "code_levels": (3, 4, 5),
    "grid": (2, 3, 4),
}


def tiny_config(**sizes: object) -> GPTConfig:
    return GPTConfig(**{**SIZES, **sizes})  # type: ignore[arg-type]


def tiny_gpt(**sizes: object) -> GPT:
    torch.manual_seed(7)
    model = GPT(tiny_config(**sizes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim > 1 else 1.0)
    return model.eval()


def random_codes(model: GPT, batch: int, num_codes: int | None = None, seed: int = 0) -> Tensor:
    frames, height, width = model.config.grid
    shape = (batch, frames * height * width if num_codes is None else num_codes)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.config.codebook_size, shape, generator=generator)
