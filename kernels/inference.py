"""Drawing, developing and reading compute with the numbers of their weights, and keep no gradients.

A caller's ``torch.autocast`` would round them: clips would be others than outside of it, and weights that
oneDNN has laid out would meet numbers of another type. So autocast ends where these begin.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
R = TypeVar("R")


def inference(function: Callable[P, R]) -> Callable[P, R]:
    """Run it in inference mode and without autocast; a generator, whenever it is resumed."""

    @functools.wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        with _inference():
            return function(*args, **options)

    @functools.wraps(function)
    def resume(*args: P.args, **options: P.kwargs) -> Iterator[Any]:
        steps = iter(cast(Iterator[Any], function(*args, **options)))
        while True:
            with _inference():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step

    return cast(Callable[P, R], resume) if inspect.isgeneratorfunction(function) else run


@contextmanager
def _inference() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
