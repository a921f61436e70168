import pytest
import torch

from kinolenta.errors import ShapeError
from kinolenta.transformer import GPT, strip_loss
from kinolenta.transformer.blocks import CodeTable
from kinolenta.transformer.rotary import rotary_frequencies, rotary_tables, rotate
from tests.transformer.tiny import random_codes, tiny_config, tiny_gpt

TEXTS = [[5, 6, 7], [], [8] * 9]


def test_left_padded_strip_gives_the_same_hidden_states() -> None:
    model, codes = tiny_gpt(), random_codes(tiny_gpt(), 3)
    packed, filled = model.layout.pack(TEXTS, codes), model.layout.pack_prefill(TEXTS, codes)
    with torch.no_grad():
        hidden, padded = model(packed), model(filled)
    for row in range(3):
        live, start = int(packed.length[row]), int(filled.text_start[row])
        torch.testing.assert_close(hidden[row, :live], padded[row, start:], atol=1e-5, rtol=1e-5)


def test_a_code_changes_nothing_before_its_slot() -> None:
    model, codes = tiny_gpt(), random_codes(tiny_gpt(), 1)
    other = codes.clone()
    other[0, 10] = (codes[0, 10] + 1) % 60
    with torch.no_grad():
        first, second = (model(model.layout.pack([[5]], each)) for each in (codes, other))
    slot = 3 + 10
    assert torch.equal(first[:, :slot], second[:, :slot])
    assert not torch.equal(first[:, slot], second[:, slot])


def test_input_of_a_slot_holds_the_code_one_frame_before_its_target() -> None:
    model, codes = tiny_gpt(), random_codes(tiny_gpt(), 1)
    other = codes.clone()
    other[0, 2] = (codes[0, 2] + 1) % 60
    first, second = (model.embed(model.layout.pack([[5]], each)) for each in (codes, other))
    differs = (first != second).any(-1)[0].nonzero().flatten().tolist()
    assert differs == [3 + 2, 3 + 2 + 11]  # its own slot, and the slot before (t + 1, h, w)


def test_places_beyond_the_trained_time_reuse_its_last_frame() -> None:
    model = tiny_gpt()
    rows = model.place_rows(torch.tensor([-1, 0, 23, 24, 35, 36]))
    assert rows.tolist() == [24, 0, 23, 12, 23, 12]


def test_new_model_is_unsure_of_everything_and_its_blocks_are_the_identity() -> None:
    model = GPT(tiny_config())
    strip = model.layout.pack([[5]], random_codes(model, 1))
    assert not model.code_logits(model(strip)).any()
    torch.testing.assert_close(model(strip), model.norm(model.embed(strip)))


def test_every_weight_gets_a_gradient() -> None:
    model = tiny_gpt()
    strip_loss(model, model.layout.pack(TEXTS, random_codes(model, 3), [[5], [], None])).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


def test_codes_with_a_common_digit_share_parameters() -> None:
    table = CodeTable(60, (3, 4, 5), 8, 1.0)
    with torch.no_grad():
        table.own.zero_()
    code = 2 + 3 * 1 + 12 * 4  # digits (2, 1, 4), least significant first
    digits = table.by_digit[[2, 3 + 1, 7 + 4]]  # type: ignore[index]
    torch.testing.assert_close(table()[code], digits.sum(0))


def test_plain_code_table_without_digits() -> None:
    model = tiny_gpt(code_levels=())
    assert torch.equal(model.code_table(), model.code_table.own)


def test_grouped_heads_and_other_grids_run() -> None:
    model = tiny_gpt(n_head=4, n_kv_head=2, grid=(3, 1, 1))
    strip = model.layout.pack([[5]], random_codes(model, 1))
    assert model(strip).shape == (1, 6, 32)


def test_rotation_depends_on_distance_only_and_keeps_length() -> None:
    frequencies = rotary_frequencies(16, 1000.0, 100.0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def score(a: list[int], b: list[int]) -> float:
        turned = [
            rotate(x, *rotary_tables(torch.tensor([[[place]]]), frequencies)) for x, place in ((q, a), (k, b))
        ]
        assert turned[0].norm().item() == pytest.approx(q.norm().item(), rel=1e-6)
        return float((turned[0] * turned[1]).sum())

    near = score([0, 1, 2, 3], [0, 0, 4, 1])
    assert score([5, 3, 7, 4], [5, 2, 9, 2]) == pytest.approx(near, abs=1e-5)
    for axis in range(4):
        moved = [0, 1, 2, 3]
        moved[axis] += 1
        assert abs(score(moved, [0, 0, 4, 1]) - near) > 1e-3


def test_every_axis_has_its_own_pairs_and_full_range() -> None:
    frequencies = rotary_frequencies(64, 1000.0, 100.0)
    assert ((frequencies > 0).sum(0) == 1).all()
    assert ((frequencies > 0).sum(1) == 8).all()
    assert frequencies.amax(1).tolist() == [1.0] * 4


def test_weights_travel_through_a_state_dict() -> None:
    model, other = tiny_gpt(), GPT(tiny_config())
    other.load_state_dict(model.state_dict())
    strip = model.layout.pack(TEXTS, random_codes(model, 3))
    assert torch.equal(model(strip), other(strip))
    assert not any("digit_bits" in name or "frequencies" in name for name in model.state_dict())


def test_loss_is_the_mean_cross_entropy_of_each_latent_frame() -> None:
    model = tiny_gpt()
    codes = random_codes(model, 3)
    strip = model.layout.pack(TEXTS, codes, [[5, 9], [], None])
    loss = strip_loss(model, strip)
    with torch.no_grad():
        hidden = model(strip)
    nats = torch.zeros(3, 24)
    right = []
    for row, text in enumerate(TEXTS):
        start = len(text) + 1
        logits = model.code_logits(hidden[row, start : start + 24])
        nats[row] = torch.nn.functional.cross_entropy(logits, codes[row], reduction="none")
        for slot in range(start + 25, int(strip.length[row]) - 1):
            target = strip.token_ids[row, slot + 1]
            right.append(-model.text_logits(hidden[row, slot]).log_softmax(-1)[target])
    assert len(right) == 4  # two ids and <eos>, and <eos> alone
    torch.testing.assert_close(loss.code_nats, nats.view(3, 2, 12).mean((0, 2)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss.text_nats, torch.stack(right).mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        loss.total, loss.code_nats.mean() + loss.text_nats + 1e-4 * loss.z_loss, atol=1e-6, rtol=1e-6
    )


def test_gradient_of_the_loss_is_that_of_plain_cross_entropy() -> None:
    model = tiny_gpt()
    strip = model.layout.pack(TEXTS, random_codes(model, 3))
    parameters = [*model.parameters()]
    wanted = [parameter for parameter in parameters if parameter.shape != model.text_out.weight.shape]
    got = torch.autograd.grad(strip_loss(model, strip).total, wanted)
    slots = model.layout.predicting_slots(strip)
    logits = model.code_logits(model(strip).gather(1, slots[..., None].expand(-1, -1, 32))).flatten(0, 1)
    targets = model.layout.codes(strip).flatten()
    plain = torch.nn.functional.cross_entropy(logits, targets) + 1e-4 * logits.logsumexp(-1).square().mean()
    for mine, expected in zip(got, torch.autograd.grad(plain, wanted), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-3)


def test_loss_works_under_bfloat16_autocast() -> None:
    model = tiny_gpt()
    strip = model.layout.pack(TEXTS, random_codes(model, 3))
    exact = strip_loss(model, strip).code_nats
    with torch.autocast("cpu", torch.bfloat16):
        loss = strip_loss(model, strip)
    assert loss.total.dtype == torch.float32
    loss.total.backward()
    torch.testing.assert_close(loss.code_nats, exact, atol=0.1, rtol=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_loss_refuses_parts_of_latent_frames() -> None:
    model = tiny_gpt()
    with pytest.raises(
        ShapeError, match="strip holds 13 codes a row; training takes whole latent frames of 12"
    ):
        strip_loss(model, model.layout.pack([[5]], random_codes(model, 1, 13)))
