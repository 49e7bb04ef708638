import numpy as np
import pytest

from c2al.cohorts.clusters import METHODS, by_size, cluster
from c2al.schema import DataError


def blobs(*, num_units: int = 3000, seed: int = 0, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """(vectors [U, 12], the group of each): three groups of 60, 30 and 10 %."""
    rng = np.random.default_rng(seed)
    group = rng.choice(3, num_units, p=(0.6, 0.3, 0.1))
    centre = 3 * rng.normal(size=(3, 12))
    return (centre[group] + spread * rng.normal(size=(num_units, 12))).astype(np.float32), group


@pytest.mark.parametrize("method", METHODS)
def test_planted_groups_are_found_largest_first(method):
    from sklearn.metrics import adjusted_rand_score

    vectors, group = blobs()
    found = cluster(vectors, method=method, num_cohorts=3, seed=0)
    assert found.dtype == np.int16
    assert adjusted_rand_score(group, found) > 0.99
    assert np.mean(found == group) > 0.99, "by size"


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides(method):
    vectors, _ = blobs(spread=4.0)
    first = cluster(vectors, method=method, num_cohorts=4, seed=3)
    np.testing.assert_array_equal(cluster(vectors, method=method, num_cohorts=4, seed=3), first)
    assert (cluster(vectors, method=method, num_cohorts=4, seed=4) != first).any()


def test_a_mixture_is_fitted_on_a_part_of_many_units(monkeypatch):
    vectors, group = blobs()
    monkeypatch.setattr("c2al.cohorts.clusters.MOST_FITTED", 700)
    assert np.mean(cluster(vectors, method="gaussian", num_cohorts=3, seed=0) == group) > 0.99


def test_ids_by_size():
    assert by_size(np.array([7, 2, 2, 9, 9, 2, 9])).tolist() == [2, 0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"method": "dbscan"}, "kmeans, gaussian"),
        ({"num_cohorts": 1}, "2 to 100"),
        ({"num_cohorts": 99}, "200 units"),
    ],
)
def test_what_cannot_be(own, said):
    with pytest.raises(DataError, match=said):
        cluster(np.zeros((200, 2)), **{"method": "kmeans", "num_cohorts": 3, "seed": 0} | own)


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="not finite"):
        cluster(np.full((200, 2), np.nan), method="kmeans", num_cohorts=3, seed=0)
