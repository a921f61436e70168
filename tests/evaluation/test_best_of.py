"""What the benchmark of choosing says of candidates whose worth is known."""

import numpy as np

from tests.evaluation.scripts import script

best_of = script("best_of")


def test_a_score_that_knows_gains_and_one_that_guesses_does_not() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((200, 8)) < 0.5).astype(float)
    found = best_of.compared(
        right, {"knows": right + rng.normal(scale=0.1, size=right.shape), "guesses": rng.random((200, 8))}
    )
    assert found["knows"]["more"]["low"] > 0.4 and found["knows"]["best"] > 0.98
    assert found["guesses"]["more"]["low"] < 0 < found["guesses"]["more"]["high"]
    assert abs(found["any"] - 0.5) < 0.05 and found["most"] > 0.98


def test_measures_of_three_verdicts() -> None:
    right = np.array([[[True, True, True], [True, True, False], [False, True, False]]])
    found = best_of.measures(right)
    np.testing.assert_allclose(found["all-factors score"], [[1, 2 / 3, 1 / 3]])
    assert found["motion and background"].tolist() == [[1, 1, 0]]
    assert found["all three"].tolist() == [[1, 0, 0]]
