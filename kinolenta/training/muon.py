"""Muon: momentum whose update is made orthogonal, for the matrices and convolutions of hidden layers.

After Jordan et al. 2024 (Muon) with the step sizes of Liu et al. 2025 (arXiv:2502.16982). PyTorch's own Muon
does the orthogonalisation in bfloat16, which processors without bfloat16 units run many times slower than
float32; this one stays in the type of the weights, and takes matrices of one shape in one batched product.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

# Quintic Newton-Schulz coefficients of Jordan et al.: they push singular values into about [0.7, 1.2] in five
# rounds.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised; lr is comparable to AdamW's.

    Every parameter is a matrix [out, in], or the kernel of a convolution, taken as one: [out, in * places].
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in by_shape.items():
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                momenta = [self._momentum(parameter) for parameter in parameters]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
                steps = orthogonalise(torch.stack([update.flatten(1) for update in updates]))
                # AdamW's updates have a root mean square of about 0.2; an orthogonal matrix has 1 / sqrt(max
                # side).
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                shaped = [step.view_as(parameter) for step, parameter in zip(steps, parameters, strict=True)]
                torch._foreach_add_(parameters, shaped, alpha=-rate)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def orthogonalise(matrices: Tensor) -> Tensor:
    """[n, rows, columns]: each replaced by roughly the nearest matrix with all singular values 1."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):  # x <- a x + (b g + c g g) x with g = x x^T, two fused product-and-sums
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
