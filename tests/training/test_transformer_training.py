"""GPT training on cached codes: it learns, it drops captions to the right, it resumes exactly."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinolenta.data.codes import CAPTIONS_FILE, CODES_FILE, QUESTIONS_FILE, open_shard
from kinolenta.errors import ConfigError, DataError
from kinolenta.tokenizer import TextTokenizer
from kinolenta.training.loop import LOG_FILE
from kinolenta.training.transformer import TransformerTrainConfig, check_tokenizer, train
from kinolenta.transformer import GPTConfig

CAPTIONS = [
    ["кошка бежит влево", "влево бежит кошка"],
    ["собака прыгает"],
    ["мяч растет"],
    ["шар летит вверх"],
]


QUESTIONS = [
    [{"kind": "what", "text": "кто это?", "answer": "кошка"}],
    [{"kind": "motion", "text": "что делает собака?", "answer": "прыгает"}],
    [{"kind": "what", "text": "что это?", "answer": "мяч"}],
    [],
]


def small_shard(folder: Path, frames: int = 2) -> Path:
    folder.mkdir()
    codes = torch.randint(
        0, 16, (4, frames, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.int32
    )
    save_file({"codes": codes}, folder / CODES_FILE)
    lines = [json.dumps(wordings, ensure_ascii=False) for wordings in CAPTIONS]
    (folder / CAPTIONS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = [json.dumps(about, ensure_ascii=False) for about in QUESTIONS]
    (folder / QUESTIONS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def small_config(tmp_path: Path, **changes: object) -> TransformerTrainConfig:
    shard = str(tmp_path / "codes")
    values = {
        "codes": shard, "dev_codes": shard, "batch": 4, "steps": 6, "eval_every": 6, "eval_clips": 4,
        "model": {"n_layer": 1, "n_head": 1, "n_kv_head": 1, "d_model": 32, "d_ff": 32, "text_dim": 8,
                  "codebook_size": 16, "code_levels": [4, 4], "grid": [2, 2, 2], "text_len": 16},
        "optim": {"warmup_steps": 2, "save_every": 2, "muon_prefixes": ["blocks."]},
    }  # fmt: skip
    return TransformerTrainConfig.from_dict(values | changes)


def test_training_lowers_the_loss_and_writes_the_model(tmp_path: Path) -> None:
    small_shard(tmp_path / "codes")
    config = small_config(tmp_path, steps=60, eval_every=60, mixture={"caption_dropout": 0.0})
    config = TransformerTrainConfig.from_dict(
        config.to_dict()
        | {"optim": config.optim.to_dict() | {"learning_rate": 0.02, "muon_learning_rate": 0.02}}
    )
    folder = train(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG_FILE).read_text().splitlines()]
    losses = [line["code_nats"] for line in lines if "code_nats" in line]
    assert losses[-1] < 0.6 * losses[0]
    [last] = [line for line in lines if "dev_nats" in line]
    assert set(last) >= {"dev_nats", "dev_nats_0", "dev_nats_1"}
    assert (folder / "model.safetensors").exists() and (folder / "config.json").exists()


def test_glances_are_learned_from_beside_the_batch(tmp_path: Path) -> None:
    small_shard(tmp_path / "codes")
    config = small_config(tmp_path, steps=40, eval_every=20, mixture={"glances": 4}, text_weight=1.0)
    rates = config.optim.to_dict() | {"learning_rate": 0.02, "muon_learning_rate": 0.02}
    train(TransformerTrainConfig.from_dict(config.to_dict() | {"optim": rates}), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG_FILE).read_text().splitlines()]
    nats = [line["glance_nats"] for line in lines if "glance_nats" in line]
    assert nats[-1] < 0.6 * nats[0]
    assert all(line["dev_glance"] > 0 and line["dev_look"] > 0 for line in lines if "dev_nats" in line)


def test_training_goes_on_from_a_model_with_wrong_codes_among_its_inputs(tmp_path: Path) -> None:
    small_shard(tmp_path / "codes")
    first = train(small_config(tmp_path), tmp_path / "first")
    config = small_config(tmp_path, start=str(first), corruption=0.5, draft_window=3, steps=3, eval_every=3)
    second = train(config, tmp_path / "second")
    again = train(small_config(tmp_path, start=str(first), steps=3, eval_every=3), tmp_path / "again")
    weights = [load_file(folder / "model.safetensors") for folder in (first, second, again)]
    rates = [max((w[name] - weights[0][name]).abs().max() for name in w) for w in weights[1:]]
    assert all(0 < rate < 0.1 for rate in rates)  # three small steps away from where they began
    assert any(not torch.equal(weights[1][name], weights[2][name]) for name in weights[0])


def test_a_share_of_the_start_is_mixed_into_what_is_left(tmp_path: Path) -> None:
    small_shard(tmp_path / "codes")
    first = train(small_config(tmp_path), tmp_path / "first")
    going_on = {"start": str(first), "steps": 5, "eval_every": 5}
    trained = train(small_config(tmp_path, **going_on), tmp_path / "trained")
    mixed = train(small_config(tmp_path, **going_on, start_share=0.25), tmp_path / "mixed")
    a, b, c = (load_file(folder / "model.safetensors") for folder in (first, trained, mixed))
    for name in a:
        expected = 0.25 * a[name].float() + 0.75 * b[name].float()
        torch.testing.assert_close(c[name].float(), expected, atol=1e-4, rtol=2e-3)  # they are in float16
    assert any(not torch.equal(b[name], c[name]) for name in a)
    last = json.loads((tmp_path / "mixed" / LOG_FILE).read_text().splitlines()[-1])
    assert last["step"] == 5 and last["mixed_dev_nats"] > 0
    with pytest.raises(ConfigError, match="the start has 'quarters' and 0, the model 'raster' and 0"):
        other = json.loads(json.dumps(small_config(tmp_path, **going_on, start_share=0.25).to_dict()))
        other["model"]["scan"] = "raster"
        train(TransformerTrainConfig.from_dict(other), tmp_path / "other")
    with pytest.raises(ConfigError, match="start_share must be 0, or lie between 0 and 1"):
        small_config(tmp_path, start_share=0.5)
    with pytest.raises(ConfigError, match="got 1"):
        small_config(tmp_path, start=str(first), start_share=1.0)


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    small_shard(tmp_path / "codes")
    whole = train(small_config(tmp_path), tmp_path / "whole")
    (tmp_path / "broken").mkdir()
    half = tmp_path / "half"
    train(small_config(tmp_path), half)  # its state after step 6 is replaced by that of step 4 below
    state = _run_until(tmp_path, 4)
    resumed = train(small_config(tmp_path), state, resume=True)
    one, other = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)


def _run_until(tmp_path: Path, step: int) -> Path:
    from kinolenta.training.loop import Trainer

    original, folder = Trainer.step, tmp_path / "interrupted"

    def interrupted(self: Trainer, *args: object, **kwargs: object) -> None:
        if self.step_number == step:
            raise KeyboardInterrupt
        original(self, *args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(small_config(tmp_path), folder)
    return folder


def test_broken_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kinolenta data encode"):
        open_shard(tmp_path)
    folder = small_shard(tmp_path / "codes")
    (folder / CAPTIONS_FILE).write_text('["одна"]\n', encoding="utf-8")
    with pytest.raises(DataError, match="codes of 4 clips, captions of 1 and questions about 4"):
        open_shard(folder)


def test_foreign_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be equal"):
        check_tokenizer(GPTConfig(text_vocab_size=100), TextTokenizer.shipped())


def test_every_task_of_the_mixture_is_learned_and_measured(tmp_path: Path) -> None:
    small_shard(tmp_path / "codes")
    longer = str(small_shard(tmp_path / "long", frames=5))
    mixture = {"ask": 0.25, "given": 0.25, "later": 0.25, "caption_dropout": 0.3}
    changes = {"mixture": mixture, "long_codes": longer, "long_dev_codes": longer, "corruption": 0.2}
    train(small_config(tmp_path, steps=4, eval_every=4, draft_window=4, **changes), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG_FILE).read_text().splitlines()]
    [last] = [line for line in lines if "dev_nats" in line]
    assert all(last[f"dev_{name}"] > 0 for name in ("nats", "read", "ask", "given", "later"))
    with pytest.raises(ConfigError, match="need long_codes"):
        small_config(tmp_path, mixture={"later": 0.1})
