"""What the benchmark of choosing says of candidates whose worth is known."""

import numpy as np

from tests.evaluation.scripts import script

compared = script("best_of").compared


def test_a_score_that_knows_gains_and_one_that_guesses_does_not() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((200, 8)) < 0.5).astype(float)
    found = compared(
        right, {"knows": right + rng.normal(scale=0.1, size=right.shape), "guesses": rng.random((200, 8))}
    )
    assert found["knows"]["more"]["low"] > 0.4 and found["knows"]["best"]["share"] > 0.98
    assert found["guesses"]["more"]["low"] < 0 < found["guesses"]["more"]["high"]
    assert abs(found["any"] - 0.5) < 0.05 and found["one of them"] > 0.98
    assert found["first"]["count"] == 200
