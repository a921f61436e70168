"""What every training run shares: optimizers, schedule, averaged weights, log, checkpoints, exact resume.

A run is a function of its config: batch number s depends on (seed, s) alone, so a run that was killed and
resumed ends with the same weights as one that was not.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from kinolenta.checkpoint import load_trainer_state, save_trainer_state
from kinolenta.config import Config
from kinolenta.errors import CheckpointError, ConfigError, GenerationError, require
from kinolenta.training.muon import Muon

STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Config):
    """AdamW, and Muon (Jordan et al. 2024) for the matrices and convolution kernels of modules whose names
    start with one of muon_prefixes.

    The rate rises over warmup_steps, then falls along a cosine to final_fraction of learning_rate. ema_decay
    is that of the averaged weights, which are the ones that ship.
    """

    learning_rate: float = 1e-3
    muon_learning_rate: float = 1e-3
    muon_prefixes: tuple[str, ...] = ()
    warmup_steps: int = 100
    final_fraction: float = 0.05
    weight_decay: float = 0.01
    beta2: float = 0.95
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    save_every: int = 250

    def __post_init__(self) -> None:
        require(
            0 < self.learning_rate < 1 and 0 < self.muon_learning_rate < 1,
            ConfigError,
            "learning rates must lie between 0 and 1; got {} and {}.",
            self.learning_rate,
            self.muon_learning_rate,
        )
        require(0 <= self.ema_decay < 1, ConfigError, "ema_decay must be in [0, 1); got {}.", self.ema_decay)
        require(self.save_every > 0, ConfigError, "save_every must be positive; got {}.", self.save_every)


class Companion(Protocol):
    """Something that learns beside the model."""

    def tensors(self) -> dict[str, Tensor]: ...

    def load_tensors(self, tensors: dict[str, Tensor]) -> None: ...


class Trainer:
    """Owns the state of one run in the folder ``out``; the caller supplies the loss of a step."""

    def __init__(
        self,
        model: nn.Module,
        config: OptimConfig,
        *,
        total_steps: int,
        out: Path,
        run: dict[str, Any],
        companion: "Companion | None" = None,
    ) -> None:
        """run: the whole configuration as plain values; a resumed run must have the same.

        companion: whatever else learns during the run and has to survive it, such as a discriminator.
        """
        self.model, self.config, self.total_steps, self.out, self.run = model, config, total_steps, out, run
        self.companion = companion
        self.step_number = 0
        self.seconds = 0.0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.optimizers = _optimizers(model, config)
        out.mkdir(parents=True, exist_ok=True)

    def resume(self) -> bool:
        """Continue from the folder's last checkpoint, if it has one. Raises CheckpointError for another
        run's.
        """
        path = self.out / STATE_FILE
        if not path.exists():
            return False
        tensors, values = load_trainer_state(path)
        if values["run"] != json.loads(json.dumps(self.run)):
            raise CheckpointError(
                f"{path} belongs to a run with another configuration. Use another output folder."
            )
        self.step_number, self.seconds = int(values["step"]), float(values["seconds"])
        self.model.load_state_dict(strip_prefix("model.", tensors))
        for name, value in strip_prefix("average.", tensors).items():
            self.average[name].copy_(value)
        for number, optimizer in enumerate(self.optimizers):
            load_optimizer(optimizer, strip_prefix(f"optimizer.{number}.", tensors))
        if self.companion is not None:
            self.companion.load_tensors(strip_prefix("companion.", tensors))
        self._trim_log()
        return True

    def save(self) -> None:
        """Write weights, averages and optimizer state as one file, atomically."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for number, optimizer in enumerate(self.optimizers):
            tensors |= {f"optimizer.{number}.{name}": v for name, v in optimizer_tensors(optimizer).items()}
        if self.companion is not None:
            tensors |= {f"companion.{name}": value for name, value in self.companion.tensors().items()}
        values = {"run": self.run, "step": self.step_number, "seconds": self.seconds}
        save_trainer_state(self.out / STATE_FILE, {n: v.contiguous() for n, v in tensors.items()}, values)

    def steps(self, name: str) -> Iterable[int]:
        """The numbers of the steps still to be made, with a progress bar on stderr."""
        bar = tqdm(
            range(self.step_number, self.total_steps),
            initial=self.step_number,
            total=self.total_steps,
            desc=name,
            file=sys.stderr,
            mininterval=5,
        )
        yield from bar

    def step(self, loss_of: Callable[[], tuple[Tensor, dict[str, float]]], *, log_every: int = 10) -> None:
        """One update: loss_of returns the loss to minimise and the figures to log."""
        started = time.perf_counter()
        rate = self._rate()
        loss, figures = loss_of()
        if not math.isfinite(loss.item()):
            raise GenerationError(
                f"Training loss is {loss.item()} at step {self.step_number}. Lower the learning rate."
            )
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._average()
        self.step_number += 1
        self.seconds += time.perf_counter() - started
        if self.step_number % log_every == 0:
            self.log(loss=loss.item(), grad_norm=norm.item(), rate=rate, **figures)
        if self.step_number % self.config.save_every == 0 or self.step_number == self.total_steps:
            self.save()

    def log(self, **figures: float) -> None:
        line = {"step": self.step_number, "seconds": round(self.seconds, 1)}
        line |= {name: round(float(value), 5) for name, value in figures.items()}
        with open(self.out / LOG_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def averaged(self) -> "AveragedWeights":
        """Context in which the model holds the averaged weights."""
        return AveragedWeights(self.model, self.average)

    def _rate(self) -> float:
        step, warmup = self.step_number, self.config.warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, self.total_steps - warmup)
        floor = self.config.final_fraction
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def _average(self) -> None:
        # A young run averages over its own length only, or the first random weights would linger.
        decay = min(self.config.ema_decay, (1 + self.step_number) / (10 + self.step_number))
        state = self.model.state_dict()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), [state[n] for n in self.average], 1 - decay)

    def _trim_log(self) -> None:
        """Drop log lines later than the checkpoint, so that a resumed log has no step twice."""
        path = self.out / LOG_FILE
        if path.exists():
            lines = [
                line for line in path.read_text().splitlines() if json.loads(line)["step"] <= self.step_number
            ]
            path.write_text("".join(line + "\n" for line in lines))


class AveragedWeights:
    """Swaps averaged weights in and out of a model."""

    def __init__(self, model: nn.Module, average: dict[str, Tensor]) -> None:
        self.model, self.average = model, average

    def __enter__(self) -> nn.Module:
        self.kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        return self.model

    def __exit__(self, *_: object) -> None:
        self.model.load_state_dict(self.kept)


def _optimizers(model: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        hidden = name.startswith(config.muon_prefixes) if config.muon_prefixes else False
        orthogonal = hidden and parameter.ndim >= 2
        (matrices if orthogonal else others).append(parameter)
    decayed = [parameter for parameter in others if parameter.ndim >= 2]
    plain = [parameter for parameter in others if parameter.ndim < 2]
    rate, decay = config.learning_rate, config.weight_decay
    groups = [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, config.beta2), fused=True)
    ]
    if matrices:
        optimizers.append(Muon(matrices, lr=config.muon_learning_rate, weight_decay=decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as named tensors; its groups are not among them, they follow from the config."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(v) for index, slot in state.items() for key, v in slot.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        slots.setdefault(int(index), {})[key] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, state in slots.items():  # in the parameter's layout, or sums would run in another order
        like = parameters[number]
        for key, value in state.items():
            if value.shape == like.shape:
                state[key] = torch.empty_like(like, dtype=value.dtype).copy_(value)
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def strip_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
