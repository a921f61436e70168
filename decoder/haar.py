"""Space-time Haar patches: an exact, orthonormal change of basis between pixels and a grid 4 times coarser.

It stands where the first and last convolutions of a VQGAN would be. All learned layers then work on 1/64 of
the positions, which is what makes the decoder fast enough for a laptop. The first frame is repeated to fill
its own block, so that an image is a clip of one frame (as in the tokenizers of MAGVIT-v2, arXiv:2310.05737,
and Cosmos).
"""

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

PATCH = 4


def haar_matrix() -> Tensor:
    """Orthonormal two-level Haar basis of four samples: mean, coarse difference, two fine differences."""
    half, root = 0.5, 0.5**0.5
    return torch.tensor(
        [
            [half, half, half, half],
            [half, half, -half, -half],
            [root, -root, 0.0, 0.0],
            [0.0, 0.0, root, -root],
        ]
    )


class HaarPatch(nn.Module):
    """Frames [b, 3, T, H, W] <-> patches [b, t, H/4, W/4, 192], T = 1 + 4 (t - 1); ``unpatch`` inverts
    exactly.
    """

    channels = 3 * PATCH**3
    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = haar_matrix()
        self.register_buffer("basis", torch.kron(line, torch.kron(line, line)), persistent=False)

    def patch(self, frames: "Float[Tensor, 'b 3 T H W']") -> "Float[Tensor, 'b t h w c']":
        padded = torch.cat([frames[:, :, :1].expand(-1, -1, PATCH - 1, -1, -1), frames], dim=2)
        blocks = rearrange(padded, "b c (t i) (h j) (w k) -> b t h w c (i j k)", i=PATCH, j=PATCH, k=PATCH)
        return rearrange(blocks @ self.basis.T, "b t h w c s -> b t h w (c s)")

    def unpatch(
        self, patches: "Float[Tensor, 'b t h w c']", first: bool = True
    ) -> "Float[Tensor, 'b 3 T H W']":
        """first: whether patches begin with the clip's first latent frame, which holds a single frame."""
        blocks = rearrange(patches, "b t h w (c s) -> b t h w c s", c=3) @ self.basis
        frames = rearrange(blocks, "b t h w c (i j k) -> b c (t i) (h j) (w k)", i=PATCH, j=PATCH, k=PATCH)
        return frames[:, :, PATCH - 1 :] if first else frames
