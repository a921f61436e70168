"""text_ids (and known codes) -> codes: a GPT over one strip of text and video tokens."""

from kinolenta.transformer.config import GPTConfig
from kinolenta.transformer.generate import Generated, Generation, generate
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.int8 import Int8Stack, int8_stack_of
from kinolenta.transformer.layout import SequenceLayout, Strip
from kinolenta.transformer.loss import StripLoss, strip_loss
from kinolenta.transformer.reading import Reading, code_log_probs, text_log_probs
from kinolenta.transformer.sampler import SamplingConfig
from kinolenta.transformer.sliding import SlidingGeneration

__all__ = [
    "GPT",
    "GPTConfig",
    "Generated",
    "Generation",
    "Int8Stack",
    "Reading",
    "SamplingConfig",
    "SequenceLayout",
    "SlidingGeneration",
    "Strip",
    "StripLoss",
    "code_log_probs",
    "generate",
    "int8_stack_of",
    "strip_loss",
    "text_log_probs",
]
