"""Guidance learned: what plain rows make of each clip, and marked rows that come near to it."""

import json
from pathlib import Path

import pytest
import torch

from kinolenta.errors import ConfigError
from kinolenta.training.guidance import guidance_nats, guided_log_probs
from kinolenta.training.loop import LOG_FILE, Trainer
from kinolenta.training.transformer import train
from kinolenta.transformer import GPT, Strip
from tests.training.test_transformer_training import small_config, small_shard
from tests.transformer.tiny import random_codes, tiny_gpt

MODEL = tiny_gpt(grid=(3, 3, 4), learned_guidance=3.0)
CODES = random_codes(MODEL, 2)
TEXTS = [[5, 6, 7], [8]]


def own_log_probs(text: list[int], codes: torch.Tensor) -> torch.Tensor:
    strip = MODEL.layout.pack([text], codes[None])
    return MODEL.code_logits(MODEL(strip)[0, MODEL.layout.code_slots(strip)[0] - 1]).log_softmax(-1)


@torch.no_grad()
def test_the_goal_is_what_guidance_makes_of_plain_rows() -> None:
    got = guided_log_probs(MODEL, MODEL.layout.pack(TEXTS, CODES), 3.0)
    for row, (text, codes) in enumerate(zip(TEXTS, CODES, strict=True)):
        cond, bare = own_log_probs(text, codes), own_log_probs([], codes)
        expected = (bare + 3 * (cond - bare)).log_softmax(-1)
        torch.testing.assert_close(got[row], expected, atol=1e-3, rtol=1e-4)
        assert not torch.allclose(got[row], cond, atol=0.1)


@torch.no_grad()
def test_the_loss_is_the_divergence_of_marked_rows_from_it() -> None:
    strip = MODEL.layout.pack(TEXTS, CODES)
    marked = MODEL.layout.guided(strip)
    slots = MODEL.layout.code_slots(strip) - 1
    said = MODEL.code_logits(MODEL(marked)[torch.arange(2)[:, None], slots]).log_softmax(-1)
    teacher = tiny_gpt(grid=(3, 3, 4))
    goal = guided_log_probs(teacher, strip, 3.0)
    got = guidance_nats(MODEL, teacher, strip)
    torch.testing.assert_close(got, (goal.exp() * (goal - said)).sum(-1).mean())


def trained(tmp_path: Path, scale: float, guided: int, **changes: object) -> list[float]:
    """dev_guided on the way of a small model that starts from its teacher."""
    small_shard(tmp_path / "codes")
    rates = {"warmup_steps": 2, "save_every": 50, "learning_rate": 0.02, "muon_learning_rate": 0.02}
    first = small_config(tmp_path, steps=60, mixture={"caption_dropout": 0.5}, optim=rates)
    start = train(first, tmp_path / "start")
    sizes = first.model.to_dict() | {"learned_guidance": scale}
    mixture = {"caption_dropout": 0.5, "guided": guided, "given": 0.5}
    train(
        small_config(tmp_path, model=sizes, start=str(start), mixture=mixture, optim=rates, **changes),
        tmp_path / "run",
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG_FILE).read_text().splitlines()]
    return [line["dev_guided"] for line in lines if "dev_guided" in line]


def test_marked_rows_learn_to_draw_what_guidance_draws(tmp_path: Path) -> None:
    apart = trained(tmp_path, 3.0, 4, steps=150, eval_every=5)
    assert apart[-1] < 0.3 * apart[0]


@torch.no_grad()
def test_marked_rows_may_be_shown_wrong_codes_and_have_the_goal_of_right_ones() -> None:
    strip = MODEL.layout.pack(TEXTS, CODES)
    slips = MODEL.layout.guided(MODEL.layout.pack(TEXTS, CODES.flip(0)))
    said = MODEL.code_logits(MODEL(slips)[torch.arange(2)[:, None], MODEL.layout.code_slots(strip) - 1])
    goal = guided_log_probs(MODEL, strip, 3.0)
    expected = (goal.exp() * (goal - said.log_softmax(-1))).sum(-1).mean()
    torch.testing.assert_close(guidance_nats(MODEL, MODEL, strip, slips), expected)


@pytest.mark.parametrize("rows", [1, 4])
def test_marked_rows_are_shown_with_wrong_codes_and_drafts(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def watched(model: GPT, teacher: GPT, strip: Strip, slips: Strip | None = None) -> torch.Tensor:
        shown.append((model.layout.guided(strip), slips))
        return guidance_nats(model, teacher, strip, slips)

    monkeypatch.setattr("kinolenta.training.transformer.guidance_nats", watched)
    changes = {"corruption": 0.9, "draft_window": 4, "dtype": "bfloat16"}
    trained(tmp_path, 2.0, rows, steps=6, eval_every=6, **changes)
    pairs = [(marked, slips) for marked, slips in shown if slips is not None]
    assert len(pairs) == 6  # evaluations show right codes
    differ = [bool((marked.token_ids != slips.token_ids).any()) for marked, slips in pairs]
    assert any(differ)
    for marked, slips in pairs:
        assert torch.equal(marked.token_ids[:, :1], slips.token_ids[:, :1])  # the mark


def test_a_run_with_a_teacher_resumes_where_it_stopped(tmp_path: Path) -> None:
    whole = trained(tmp_path, 3.0, 2, steps=8, eval_every=4)
    saved = {"warmup_steps": 2, "save_every": 4, "learning_rate": 0.02, "muon_learning_rate": 0.02}
    sizes = small_config(tmp_path).model.to_dict() | {"learned_guidance": 3.0}
    mixture = {"caption_dropout": 0.5, "guided": 2, "given": 0.5}
    config = small_config(
        tmp_path, model=sizes, start=str(tmp_path / "start" / "model"), mixture=mixture, optim=saved, steps=8,
        eval_every=4,
    )  # fmt: skip

    class Stop(Exception):
        pass

    def stopping(self: Trainer, loss_of: object) -> None:
        if self.step_number == 5:
            raise Stop
        careful(self, loss_of)  # type: ignore[arg-type]

    careful = Trainer.step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Trainer, "step", stopping)
        train(config, tmp_path / "again")
    train(config, tmp_path / "again", resume=True)
    lines = [json.loads(line) for line in (tmp_path / "again" / LOG_FILE).read_text().splitlines()]
    assert [line["dev_guided"] for line in lines if "dev_guided" in line][-1] == whole[-1]


@pytest.mark.parametrize(("rows", "scale"), [(4, None), (0, 3.0)])
def test_rows_and_scale_go_together(rows: int, scale: float | None, tmp_path: Path) -> None:
    sizes = small_config(tmp_path).model.to_dict() | {"learned_guidance": scale}
    with pytest.raises(ConfigError, match="go together"):
        small_config(tmp_path, mixture={"guided": rows}, model=sizes)


def test_there_is_no_guidance_to_learn_without_a_start(tmp_path: Path) -> None:
    sizes = small_config(tmp_path).model.to_dict() | {"learned_guidance": 3.0}
    with pytest.raises(ConfigError, match="name it as start"):
        small_config(tmp_path, mixture={"guided": 4}, model=sizes)
