"""Products and convolutions by weights that oneDNN has laid out beforehand, as it likes them, on a CPU.

PyTorch's own layers lay a weight out anew in every call, or leave small inputs to slower routines. Elsewhere
than on a CPU with oneDNN these are PyTorch's own.
"""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Product: TypeAlias = Callable[[Tensor], Tensor]
Made = TypeVar("Made", bound=Product)


def multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies numbers of this type on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class Linear:
    """What makes of x [..., in] what F.linear makes of it, a weight [out, in] and a bias [out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._bias = weight.detach(), None if bias is None else bias.detach()
        self._multiply: Callable[..., Tensor] | None = None
        self._multiply_onto: Callable[..., Tensor] | None = None
        if weight.device.type == "cpu" and multiplies(weight.dtype):
            with torch.inference_mode(False):
                self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight.contiguous())
            operator = torch.ops.mkldnn._linear_pointwise
            self._multiply = operator.default
            if weight.dtype == torch.float32:  # of shorter numbers a sum would be rounded once, not twice
                self._multiply_onto = operator.binary

    def __call__(self, x: Tensor) -> Tensor:
        if self._multiply is None:
            return F.linear(x, self._weight, self._bias)
        return self._multiply(x, self._weight, self._bias, "none", [], "")

    def onto(self, y: Tensor, x: Tensor) -> Tensor:
        """y + self(x), the same bits, and where it can be, one operation."""
        if self._multiply_onto is None:
            return y + self(x)
        return self._multiply_onto(x, y, self._weight, self._bias, "add")


def convolution_of(weight: Tensor, bias: Tensor, stride: int, padding: int) -> Product:
    """What makes of x [n, in, h, w] what F.conv2d makes of it, a weight [out, in, k, k] and a bias [out]."""
    weight, bias = weight.detach(), bias.detach()
    if weight.device.type != "cpu" or not multiplies(weight.dtype):
        return lambda x: F.conv2d(x, weight, bias, stride, padding)
    shape = [padding] * 2, [stride] * 2, [1, 1], 1
    kept = [(torch.Size(), weight)]  # how a weight is best laid out depends on what it meets
    convolve = torch.ops.mkldnn._convolution_pointwise.default

    def convolution(x: Tensor) -> Tensor:
        size, packed = kept[0]
        if size != x.shape:
            with torch.inference_mode(False):
                packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *shape, list(x.shape))
            kept[0] = x.shape, packed
        return convolve(x, packed, bias, *shape, "none", [], "")

    return convolution


def state_of(weight: Tensor) -> Hashable:
    """What changes whenever PyTorch changes a weight.

    What is written past it, through ``weight.data`` in place or a numpy array of the same memory, is not
    seen: write under ``torch.no_grad()`` instead.
    """
    version = None if weight.is_inference() else weight._version  # counts changes in place
    return weight.data_ptr(), weight.dtype, weight.device, version


class LaidOut(Generic[Made]):
    """What ``make`` has made of weights, kept until one of them changes; a copy has to make its own."""

    def __init__(self, make: Callable[..., Made]) -> None:
        self._make = make
        self._made: tuple[Hashable, Made] | None = None

    def of(self, *weights: Tensor) -> Made:
        made_of = tuple(state_of(weight) for weight in weights)
        if self._made is None or self._made[0] != made_of:
            self._made = made_of, self._make(*weights)
        return self._made[1]

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what oneDNN laid out, which can be neither pickled nor copied."""
        return LaidOut, (self._make,)
