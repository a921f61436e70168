"""Transformers of agreed sizes with random weights, for figures that no training enters."""

from dataclasses import replace

import torch

from kinolenta.transformer import GPT, GPTConfig

SIZES = {"small": (8, 512, 8, 1344), "large": (12, 768, 12, 2048)}  # layers, width, heads, feed-forward
SPREAD = 0.075  # of the weights; the less it is, the fewer passes a clip takes


def shaped(config: GPTConfig, size: str) -> GPT:
    """A transformer of that size, otherwise as ``config`` says; its clips are noise."""
    layers, width, heads, inner = SIZES[size]
    config = replace(config, n_layer=layers, d_model=width, n_head=heads, n_kv_head=heads, d_ff=inner)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(config).eval().requires_grad_(False)
        torch.nn.init.normal_(model.code_head.own, std=0.02)
        for parameter in model.blocks.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=SPREAD)
    return model
