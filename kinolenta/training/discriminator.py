"""A small image discriminator for sharper frames, joined late in training or not at all.

Patch discriminator and hinge loss as in VQGAN (Esser et al. 2021, arXiv:2012.09841), on random single frames:
at small compute an image discriminator is the stable choice.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from kinolenta.training.loop import load_optimizer, optimizer_tensors, strip_prefix


class PatchDiscriminator(nn.Sequential):
    """Frames [n, 3, H, W] in [-1, 1] to one score per patch of 16x16 px."""

    def __init__(self, channels: int = 48) -> None:
        super().__init__(
            nn.Conv2d(3, channels, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, 2, 1),
            nn.GroupNorm(1, 2 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 4 * channels, 4, 2, 1),
            nn.GroupNorm(1, 4 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * channels, 1, 3, 1, 1),
        )


class AdversarialLoss:
    """Trains its discriminator on the frames it is shown and returns the generator's term, weight
    included.
    """

    def __init__(self, weight: float, learning_rate: float = 2e-4) -> None:
        self.weight = weight
        self.discriminator = PatchDiscriminator()
        self.optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=learning_rate, betas=(0.5, 0.9)
        )

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """output, target [b, 3, T, H, W]."""
        made = rearrange(output, "b c t h w -> (b t) c h w")
        real = rearrange(target, "b c t h w -> (b t) c h w")
        scores_real, scores_made = self.discriminator(real), self.discriminator(made.detach())
        loss = F.relu(1 - scores_real).mean() + F.relu(1 + scores_made).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return -self.weight * self.discriminator(made).mean()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs."""
        tensors = {f"discriminator.{name}": value for name, value in self.discriminator.state_dict().items()}
        return tensors | {f"optimizer.{name}": v for name, v in optimizer_tensors(self.optimizer).items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``tensors``."""
        self.discriminator.load_state_dict(strip_prefix("discriminator.", tensors))
        load_optimizer(self.optimizer, strip_prefix("optimizer.", tensors))
