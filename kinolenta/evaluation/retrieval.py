"""Whether scores find what belongs together, and whether a difference is more than chance."""

import numpy as np
from numpy.typing import NDArray


def ranks(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """For each row of a square matrix, how many columns score higher than the one on the diagonal, plus one.

    Equals count as half of them higher, so that constant scores give the rank of chance.
    """
    own = np.diagonal(scores)[:, None]
    higher, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
    return 1 + higher + equal // 2


def recall(scores: NDArray[np.floating], at: int) -> float:
    """Share of rows whose own column is among the ``at`` highest."""
    return float((ranks(scores) <= at).mean())


def centred(log_probs: NDArray[np.floating]) -> NDArray[np.floating]:
    """log p(text j | clip i) less the log of its mean over the clips: how much more this clip says than any.

    Without that, a short or common text fits every clip best.
    """
    highest = log_probs.max(0, keepdims=True)
    prior = highest + np.log(np.exp(log_probs - highest).mean(0, keepdims=True))
    return log_probs - prior


def bootstrap(
    differences: NDArray[np.floating], *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by drawing them with replacement (Efron 1979)."""
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, len(differences), (draws, len(differences)))
    low, high = np.percentile(np.asarray(differences, float)[picked].mean(1), (2.5, 97.5))
    return float(low), float(high)
