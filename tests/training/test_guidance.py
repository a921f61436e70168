"""Guidance learned: what the teacher says of each row, and a pupil that says it without a second row."""

import json
from pathlib import Path

import pytest
import torch

from kinolenta.checkpoint import save_weights
from kinolenta.errors import ConfigError
from kinolenta.training.guidance import check_teacher, guided_log_probs
from kinolenta.training.loop import LOG_FILE
from kinolenta.training.transformer import TransformerTrainConfig, train
from kinolenta.transformer.loss import strip_loss
from tests.training.test_transformer_training import small_config, small_shard
from tests.transformer.tiny import random_codes, tiny_gpt

MODEL = tiny_gpt(grid=(3, 3, 4))
CODES = random_codes(MODEL, 4)


def own_log_probs(texts: list[list[int]], right: list[list[int] | None]) -> torch.Tensor:
    """Each row alone."""
    rows = []
    for text, codes, tail in zip(texts, CODES, right, strict=True):
        strip = MODEL.layout.pack([text], codes[None], [tail])
        slots = MODEL.layout.code_slots(strip)[0] - 1
        rows.append(MODEL.code_logits(MODEL(strip)[0, slots]).log_softmax(-1))
    return torch.stack(rows)


@torch.no_grad()
def test_captioned_rows_are_guided_and_rows_with_text_on_the_right_are_not() -> None:
    texts, right = [[5, 6, 7], [], [8], []], [None, [5, 6], [9], None]
    strip = MODEL.layout.pack(texts, CODES, right)
    got = guided_log_probs(MODEL, strip, 3.0)
    cond, bare = own_log_probs(texts, right), own_log_probs([[]] * 4, [None] * 4)
    expected = cond.clone()
    expected[0] = (bare[0] + 3 * (cond[0] - bare[0])).log_softmax(-1)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(got[0], cond[0], atol=1e-2)


@torch.no_grad()
def test_the_loss_is_the_divergence_from_the_teacher() -> None:
    strip = MODEL.layout.pack([[5, 6, 7], [8]], CODES[:2])
    taught = guided_log_probs(MODEL, strip, 3.0)
    own = guided_log_probs(MODEL, strip, 1.0)
    expected = (taught.exp() * (taught - own)).sum(-1).mean()
    torch.testing.assert_close(strip_loss(MODEL, strip, taught=taught).code_nats.mean(), expected)
    torch.testing.assert_close(
        strip_loss(MODEL, strip, taught=own).code_nats, torch.zeros(3), atol=1e-6, rtol=0
    )


def test_a_pupil_comes_near_to_its_guided_teacher(tmp_path: Path) -> None:
    small_shard(tmp_path / "codes")
    rates = {"learning_rate": 0.02, "muon_learning_rate": 0.02}
    first = small_config(tmp_path, steps=60, mixture={"caption_dropout": 0.5})
    optim = first.optim.to_dict() | rates
    teacher = train(
        TransformerTrainConfig.from_dict(first.to_dict() | {"optim": optim}), tmp_path / "teacher"
    )
    changes = {
        "optim": optim, "start": str(teacher), "teacher": str(teacher), "teacher_guidance": 3.0, "steps": 80,
        "eval_every": 10,
    }  # fmt: skip
    train(TransformerTrainConfig.from_dict(first.to_dict() | changes), tmp_path / "pupil")
    lines = [json.loads(line) for line in (tmp_path / "pupil" / LOG_FILE).read_text().splitlines()]
    apart = [line["dev_taught"] for line in lines if "dev_taught" in line]
    assert apart[-1] < 0.3 * apart[0]


def test_a_teacher_of_other_strips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must agree in"):
        check_teacher(MODEL.config, tiny_gpt(grid=(2, 3, 4)).config)
    other = tiny_gpt(grid=(2, 3, 4))
    save_weights(tmp_path / "other", other.config, other.state_dict())
    small_shard(tmp_path / "codes")
    with pytest.raises(ConfigError, match="must agree in"):
        train(small_config(tmp_path, teacher=str(tmp_path / "other")), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"teacher_guidance": 3.0}, "there is no teacher"),
        ({"teacher": "a", "teacher_guidance": 0.0}, "above 0, at most 100"),
        ({"teacher": "a", "start": "a", "start_share": 0.5}, "set it to 0 beside a teacher"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, object], match: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=match):
        small_config(tmp_path, **changes)
