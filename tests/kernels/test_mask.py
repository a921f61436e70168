"""Every mask, written out, against its rule said in plain words for one pair at a time."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from kinolenta.errors import ConfigError
from kinolenta.kernels.attention import Causal, Column, Mask, Neighbourhood, Prefix, Row

SLOTS, TEXT, CODES, HEIGHT, WIDTH = 60, 7, 45, 3, 5
Near = Callable[[int, int], bool]


def place(code: int) -> tuple[int, int, int]:
    return code // (HEIGHT * WIDTH), code // WIDTH % HEIGHT, code % WIDTH


def close(code: int, other: int) -> bool:
    """At most 1 latent frame, 1 row and 2 columns away."""
    (t, h, w), (u, i, j) = place(code), place(other)
    return t - u <= 1 and abs(h - i) <= 1 and abs(w - j) <= 2


def around(code: int, other: int) -> bool:
    """At most 2 rows and 2 columns away in a frame of 9 by 5 whose borders meet."""
    rows, columns = abs(code // 5 - other // 5), abs(code % 5 - other % 5)
    return min(rows, 9 - rows) <= 2 and min(columns, 5 - columns) <= 2


def sparse(near: Near) -> Near:
    """Text is seen by all that follows; right text sees all before; codes see near codes."""

    def sees(i: int, j: int) -> bool:
        is_code = TEXT <= i < TEXT + CODES and j >= TEXT
        return j <= i and (not is_code or near(i - TEXT, j - TEXT))

    return sees


CASES: dict[str, tuple[Mask, Near]] = {
    "causal": (Causal(), lambda i, j: j <= i),
    "prefix": (Prefix(prefix=TEXT), lambda i, j: j <= i or j < TEXT),
    "row": (Row(code_start=TEXT, num_codes=CODES, width=WIDTH), sparse(lambda a, b: a - b <= WIDTH)),
    "column": (Column(code_start=TEXT, num_codes=CODES, width=WIDTH), sparse(lambda a, b: a % 5 == b % 5)),
    "neighbourhood": (
        Neighbourhood(code_start=TEXT, num_codes=CODES, height=HEIGHT, width=WIDTH, window=(1, 1, 2)),
        sparse(close),
    ),
    "wrapped": (
        Neighbourhood(code_start=TEXT, num_codes=CODES, height=9, width=5, window=(0, 2, 2), wrap=True),
        sparse(around),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_mask_is_its_rule(name: str) -> None:
    mask, sees = CASES[name]
    expected = torch.tensor([[sees(i, j) for j in range(SLOTS)] for i in range(SLOTS)])
    assert torch.equal(mask.visible(SLOTS, SLOTS, torch.device("cpu"))[0, 0], expected)


@pytest.mark.parametrize("name", CASES)
def test_window_is_a_part_of_the_whole_mask_and_dead_slots_are_left_out(name: str) -> None:
    mask, sees = CASES[name]
    starts, pad, length = torch.tensor([20, 31]), torch.tensor([3, 0]), torch.tensor([60, 40])
    ragged = replace(mask, start=starts, pad=pad, length=length)
    visible = ragged.visible(12, SLOTS, torch.device("cpu"))
    for row in range(2):
        for i in range(12):
            slot = int(starts[row]) + i
            live = [bool(pad[row] <= j < length[row]) and sees(slot, j) for j in range(SLOTS)]
            live[slot] = True  # though it may be dead: no softmax is empty
            assert visible[row, 0, i].tolist() == live


@pytest.mark.parametrize("pad", [None, [0, 0], [5, 0], [5, 23]], ids=str)
@pytest.mark.parametrize("start", [0, 12, [12, 12], [12, 20]], ids=str)
def test_bias_is_the_mask_in_numbers(start: int | list[int], pad: list[int] | None) -> None:
    dead = None if pad is None else torch.tensor(pad)
    mask = Causal(start=start if isinstance(start, int) else torch.tensor(start), pad=dead)
    bias, visible = mask.bias(9, SLOTS, torch.empty(0)), mask.visible(9, SLOTS, torch.device("cpu"))
    shape = torch.broadcast_shapes(bias.shape, visible.shape)
    assert torch.equal(bias.expand(shape) == 0, visible.expand(shape))
    assert torch.equal(bias.expand(shape) == -torch.inf, ~visible.expand(shape))


@pytest.mark.parametrize("name", CASES)
def test_codes_may_start_at_another_slot_in_each_row(name: str) -> None:
    mask, _ = CASES[name]
    if name == "causal":
        return
    field = "prefix" if name == "prefix" else "code_start"
    both = replace(mask, **{field: torch.tensor([TEXT, 4])}).visible(SLOTS, SLOTS, torch.device("cpu"))
    for row, start in enumerate((TEXT, 4)):
        alone = replace(mask, **{field: start}).visible(SLOTS, SLOTS, torch.device("cpu"))
        assert torch.equal(both[row], alone[0])


def test_a_query_in_a_dead_slot_sees_only_itself() -> None:
    visible = Causal(pad=torch.tensor([3])).visible(5, 5, torch.device("cpu"))[0, 0]
    assert torch.equal(visible[:3], torch.eye(5, dtype=torch.bool)[:3])


def test_rows_name_start_first_stop_and_boundary() -> None:
    mask = Row(
        start=torch.tensor([2, 3]),
        pad=torch.tensor([1, 0]),
        code_start=torch.tensor([4, 5]),
        num_codes=8,
        width=2,
    )
    assert mask.rows(2, 20, torch.device("cpu")).tolist() == [[2, 1, 20, 4], [3, 0, 20, 5]]
    assert Causal().rows(2, 20, torch.device("cpu")).tolist() == [[0, 0, 20, 0]] * 2


def test_impossible_masks_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_codes must be positive; got 0"):
        Row(code_start=3, num_codes=0, width=4)
    with pytest.raises(ConfigError, match="wrap is for a single frame of 16 codes; got 32 codes"):
        Neighbourhood(code_start=3, num_codes=32, height=4, width=4, window=(0, 1, 1), wrap=True)
    with pytest.raises(ConfigError, match="a window of three numbers from 0"):
        Neighbourhood(code_start=3, num_codes=32, height=4, width=4, window=(0, -1, 1))
