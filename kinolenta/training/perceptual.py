"""Perceptual distance on MobileNetV2 features, for frames as small as 64 px.

Distances between the features of a trained classifier follow what people see better than pixels do (Zhang et
al. 2018, arXiv:1801.03924). The network is Sandler et al. 2018 (arXiv:1801.04381) with torchvision's ImageNet
weights.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor, nn

from kinolenta.errors import CheckpointError

# (expansion, channels, repeats, stride) of the inverted residuals; the taps are the ends of the first four
# stages.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
TAPS = (1, 3, 6, 10)


class _ConvNorm(nn.Sequential):
    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU6(),
        )


class _InvertedResidual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_ConvNorm(channels_in, hidden, 1)]
        layers += [
            _ConvNorm(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class PerceptualDistance(nn.Module):
    """Mean squared distance of channel-normalised features at four depths, averaged; 0 for equal frames."""

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        """weights: torchvision's mobilenet_v2 as safetensors; layers behind the last tap are left out."""
        super().__init__()
        layers: list[nn.Module] = [_ConvNorm(3, 32, 3, 2)]
        channels = 32
        for expansion, width, repeats, stride in STAGES:
            for number in range(repeats):
                layers.append(_InvertedResidual(channels, width, expansion, stride if number == 0 else 1))
                channels = width
        self.features = nn.Sequential(*layers)
        state = load_file(weights)
        missing = [name for name in self.state_dict() if name not in state]
        if missing:
            raise CheckpointError(
                f"{weights} is not torchvision's MobileNetV2: it has no tensor {missing[0]!r}."
            )
        self.load_state_dict({name: state[name] for name in self.state_dict()})
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, frames: Tensor, target: Tensor) -> Tensor:
        """frames, target [b, 3, T, H, W] in [-1, 1]."""
        distance = frames.new_zeros(())
        x, y = self._images(frames), self._images(target)
        for number, layer in enumerate(self.features):
            x = layer(x)
            with torch.no_grad():
                y = layer(y)
            if number in TAPS:
                distance = distance + (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean()
        return distance / len(TAPS)

    def _images(self, frames: Tensor) -> Tensor:
        images = rearrange(frames, "b c t h w -> (b t) c h w")
        return (images / 2 + 0.5 - self.mean) / self.std
