"""Cohorts of users from what a model makes of them: k-means, or a mixture of Gaussians, over vectors by unit.

k-means is scikit-learn's mini-batch one (Sculley, WWW 2010). The mixture is fitted on at most ``MOST_FITTED`` units,
in the first ``NUM_DIRECTIONS`` principal components: a full covariance of 64 columns would have 2,080 numbers.

Units of a model's own vectors differ in its predictions by construction, also where it has only learned noise. So such
cohorts are no finding by themselves: ``c2al.cohorts.borne_out`` asks labels that the model has not seen.
"""

import numpy as np

from c2al.schema import DataError

METHODS = ("kmeans", "gaussian")
MOST_FITTED = 200_000
NUM_DIRECTIONS = 8
_BATCH = 4096


def cluster(vector_UE: np.ndarray, *, method: str, num_cohorts: int, seed: int) -> np.ndarray:
    """A cohort id for each unit (int16), the largest cohort first. The same seed and vectors give the same cohorts.

    On one thread: sums over several would depend on their number.
    """
    from threadpoolctl import threadpool_limits

    if method not in METHODS:
        raise DataError("no such clustering", value=method, remedy=f"one of {', '.join(METHODS)}")
    if not 2 <= num_cohorts <= 100 or len(vector_UE) < 10 * num_cohorts:
        raise DataError(
            f"{len(vector_UE):,} units do not make so many cohorts",
            value=num_cohorts,
            remedy="2 to 100, of ten units each",
        )
    if not np.isfinite(vector_UE).all():
        raise DataError("the users' vectors are not finite", remedy="the run diverged: train it again")
    with threadpool_limits(1):
        found_U = (_kmeans if method == "kmeans" else _gaussian)(vector_UE.astype(np.float64), num_cohorts, seed)
    return by_size(found_U)


def by_size(ids: np.ndarray) -> np.ndarray:
    """Ids renumbered from 0, the most frequent first; of equal ones that which was lower."""
    _, numbered, counts = np.unique(ids, return_inverse=True, return_counts=True)
    place = np.empty(len(counts), np.int16)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return place[numbered]


def _kmeans(vector_UE: np.ndarray, num_cohorts: int, seed: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    fitted = MiniBatchKMeans(num_cohorts, random_state=seed, batch_size=_BATCH, n_init=3).fit(vector_UE)
    return fitted.predict(vector_UE)


def _gaussian(vector_UE: np.ndarray, num_cohorts: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    chosen = np.random.default_rng(seed).permutation(len(vector_UE))[:MOST_FITTED]
    directions = PCA(min(NUM_DIRECTIONS, vector_UE.shape[1]), random_state=seed).fit(vector_UE[chosen])
    fitted = GaussianMixture(num_cohorts, random_state=seed).fit(directions.transform(vector_UE[chosen]))
    parts = np.array_split(vector_UE, -(-len(vector_UE) // MOST_FITTED))
    return np.concatenate([fitted.predict(directions.transform(part)) for part in parts])
