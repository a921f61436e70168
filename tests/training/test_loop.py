"""Training that was killed and resumed ends with the weights of training that was not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kinolenta.config import with_overrides
from kinolenta.data.store import CLIPS_FILE, INDEX_FILE, StoreConfig
from kinolenta.errors import CheckpointError, ConfigError, DataError, GenerationError
from kinolenta.pixels import to_float, to_uint8
from kinolenta.training import decoder as decoder_training
from kinolenta.training.decoder import DecoderTrainConfig, clip_psnr
from kinolenta.training.discriminator import AdversarialLoss
from kinolenta.training.loop import LOG_FILE, OptimConfig, Trainer
from kinolenta.training.muon import Muon, orthogonalise


def small_store(folder: Path, num_clips: int = 4) -> Path:
    """Clips of a bright square that moves over a dark ground."""
    folder.mkdir()
    clips = np.full((num_clips, 17, 64, 64, 3), 40, dtype=np.uint8)
    for number in range(num_clips):
        for t in range(17):
            clips[number, t, 20:40, 2 * t + number : 2 * t + number + 16] = 220
    clips.tofile(folder / CLIPS_FILE)
    (folder / INDEX_FILE).write_text(json.dumps(StoreConfig(num_clips=num_clips).to_dict() | {"fps": 8.0}))
    return folder


def small_config(tmp_path: Path, **changes: object) -> DecoderTrainConfig:
    store = str(tmp_path / "clips")
    values = {
        "clips": store, "dev_clips": store, "eval_every": 100, "eval_clips": 2,
        "model": {"channels": [8, 12], "encoder_blocks": [1, 1], "decoder_blocks": [1, 1]},
        "optim": {"warmup_steps": 2, "save_every": 2},
        "stages": [{"num_frames": 1, "batch": 4, "steps": 3}, {"num_frames": 5, "batch": 2, "steps": 3}],
    }  # fmt: skip
    return DecoderTrainConfig.from_dict(values | changes)


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_store(tmp_path / "clips")
    config = small_config(tmp_path, adversarial_weight=0.1, adversarial_start=1)
    whole = decoder_training.train(config, tmp_path, tmp_path / "whole")

    original, calls = Trainer.step, []

    def interrupted(self: Trainer, *args: object, **kwargs: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        original(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decoder_training.train(config, tmp_path, tmp_path / "broken")
    assert not (tmp_path / "broken" / "model").exists()
    monkeypatch.setattr(Trainer, "step", original)
    resumed = decoder_training.train(config, tmp_path, tmp_path / "broken", resume=True)

    one, other = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_resume_refuses_another_configuration(tmp_path: Path) -> None:
    small_store(tmp_path / "clips")
    decoder_training.train(small_config(tmp_path), tmp_path, tmp_path / "run")
    with pytest.raises(CheckpointError, match="another configuration"):
        decoder_training.train(
            small_config(tmp_path, gradient_weight=0.1), tmp_path, tmp_path / "run", resume=True
        )


def test_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    trainer = Trainer(model, OptimConfig(), total_steps=3, out=tmp_path, run={})
    with pytest.raises(GenerationError, match="step 0"):
        trainer.step(lambda: (model(torch.full((1, 2), float("nan"))).sum(), {}))


def test_log_holds_the_figures_of_each_logged_step(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    trainer = Trainer(model, OptimConfig(), total_steps=4, out=tmp_path, run={})
    for _ in range(4):
        trainer.step(lambda: (model(torch.ones(1, 2)).square().sum(), {"extra": 1.5}), log_every=2)
    lines = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(line["extra"] == 1.5 and line["loss"] > 0 for line in lines)


def test_averaged_weights_are_swapped_in_and_out(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    trainer = Trainer(model, OptimConfig(learning_rate=0.1), total_steps=9, out=tmp_path, run={})
    for _ in range(5):
        trainer.step(lambda: (model(torch.ones(1, 2)).sum(), {}))
    kept = model.weight.detach().clone()
    with trainer.averaged():
        assert not torch.equal(model.weight, kept)
        assert torch.equal(model.weight, trainer.average["weight"])
    assert torch.equal(model.weight, kept)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 24, 8), (2, 8, 24)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalise(matrices))
    assert singular.min() > 0.3 and singular.max() < 1.3
    # The singular vectors stay: the update still points the way the gradient did.
    assert (orthogonalise(matrices) * matrices).sum() > 0


def test_muon_lowers_a_quadratic() -> None:
    weight = nn.Parameter(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))
    target, optimizer = torch.eye(8), Muon([weight], lr=0.2)
    losses = []
    for _ in range(60):
        loss = (weight - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_muon_takes_a_convolution_as_one_matrix() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 4, 1, 3, 3))
    before, optimizer = kernel.detach().clone(), Muon([kernel], lr=0.1)
    kernel.square().sum().backward()
    optimizer.step()
    moved = (kernel.detach() - before).flatten(1)
    singular = torch.linalg.svdvals(moved) / (0.1 * 0.2 * 36**0.5)
    assert kernel.shape == before.shape and singular.min() > 0.3 and singular.max() < 1.3
    assert (moved * before.flatten(1)).sum() < 0  # downhill


def test_discriminator_term_pushes_towards_real(tmp_path: Path) -> None:
    torch.manual_seed(0)
    adversary = AdversarialLoss(1.0, learning_rate=1e-3)
    real, made = torch.ones(2, 3, 1, 32, 32) * 0.5, -torch.ones(2, 3, 1, 32, 32) * 0.5
    for _ in range(20):
        adversary(made, real)
    assert adversary(made, real) > adversary(real, real)


def test_frames_survive_the_way_to_floats_and_back() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 5, 8, 8, 3), dtype=np.uint8)
    floats = to_float(clips)
    assert isinstance(floats, Tensor) and floats.shape == (2, 3, 5, 8, 8)
    assert floats.min() >= -1 and floats.max() <= 1
    assert np.array_equal(to_uint8(floats), clips)


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    assert clip_psnr(black, black) == float("inf")
    assert clip_psnr(black, black + 16) == pytest.approx(20 * np.log10(255 / 16))


def test_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kinolenta data render"):
        decoder_training.train(small_config(tmp_path), tmp_path, tmp_path / "run")


def test_config_overrides_reach_nested_options(tmp_path: Path) -> None:
    values = with_overrides(
        small_config(tmp_path).to_dict(), ["optim.learning_rate=3e-4", "model.fsq_levels=[8,8]"]
    )
    config = DecoderTrainConfig.from_dict(values)
    assert config.optim.learning_rate == 3e-4 and config.model.codebook_size == 64
    with pytest.raises(ConfigError, match="learning_rat"):
        DecoderTrainConfig.from_dict(with_overrides(config.to_dict(), ["optim.learning_rat=1"]))
