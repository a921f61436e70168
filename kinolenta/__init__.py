"""Kinolenta: a Russian sentence goes in, a clip comes out, one token at a time.

Data flows text -> tokenizer -> transformer (kernels) -> decoder -> frames. The four stages stand at the root
of a checkout and are installed as ``kinolenta.<stage>``; this package is the only one that imports them all.
Names are exported lazily, so that ``import kinolenta`` costs no torch.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

_here = os.path.dirname(os.path.abspath(__file__))
if not os.path.isdir(os.path.join(_here, "tokenizer")):  # a checkout: the stages are the root's directories
    __path__.append(os.path.dirname(_here))

if TYPE_CHECKING:
    from kinolenta.clip import Clip
    from kinolenta.errors import KinolentaError
    from kinolenta.pipeline import VideoPipeline
    from kinolenta.register import register_attention

__version__ = "0.1.0"
__all__ = ["Clip", "KinolentaError", "VideoPipeline", "__version__", "register_attention"]

_exports = {
    "Clip": "kinolenta.clip",
    "KinolentaError": "kinolenta.errors",
    "VideoPipeline": "kinolenta.pipeline",
    "register_attention": "kinolenta.register",
}


def __getattr__(name: str) -> Any:
    if name not in _exports:
        raise AttributeError(f"module 'kinolenta' has no attribute {name!r}")
    return getattr(importlib.import_module(_exports[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_exports])
