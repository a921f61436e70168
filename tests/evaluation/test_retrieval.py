import numpy as np
import pytest

from kinolenta.evaluation.retrieval import bootstrap, centred, ranks, recall


def test_ranks_count_what_scores_higher() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [5.0, 4.0, 4.5], [0.0, 0.0, 0.0]])
    assert ranks(scores).tolist() == [1, 3, 2]
    assert recall(scores, 1) == pytest.approx(1 / 3) and recall(scores, 3) == 1.0


def test_constant_scores_are_chance() -> None:
    assert ranks(np.zeros((101, 101))).tolist() == [51] * 101
    assert recall(np.zeros((101, 101)), 10) == 0.0


def test_a_common_text_no_longer_fits_every_clip() -> None:
    rng = np.random.default_rng(0)
    fits = rng.normal(size=(50, 50)) + 3 * np.eye(50)
    texts = rng.normal(scale=30, size=50)  # some texts are likely whatever the clip shows
    assert recall(fits + texts, 1) < 0.1
    assert recall(centred(fits + texts), 1) > 0.5
    np.testing.assert_allclose(centred(fits + texts), centred(fits))


def test_bootstrap_tells_chance_from_difference() -> None:
    low, high = bootstrap(np.tile([-1.0, 0.0, 1.0], 60))
    assert low < 0 < high
    low, high = bootstrap(np.tile([0.0, 1.0], 100))
    assert 0.3 < low < 0.5 < high < 0.7
    assert bootstrap(np.ones(5)) == (1.0, 1.0)
