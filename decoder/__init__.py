"""codes <-> frames: a causal 3-D VQGAN with finite scalar quantization and streaming decode."""

from kinolenta.decoder.config import VQGANConfig
from kinolenta.decoder.vqgan import DecoderStream, VideoVQGAN

__all__ = ["DecoderStream", "VQGANConfig", "VideoVQGAN"]
