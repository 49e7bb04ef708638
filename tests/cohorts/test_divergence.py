import numpy as np
import pytest
from scipy.spatial import distance
from scipy.stats import entropy, wasserstein_distance

from c2al.cohorts.divergence import DIVERGENCES, cosine, js, kl, named, wasserstein
from c2al.schema import DataError

CENTRES = np.linspace(-4, -1, 20)


@pytest.fixture
def histograms():
    rng = np.random.default_rng(0)
    p, q = rng.gamma(0.5, size=(2, 7, 20)) * 1000
    p[:, :3] = 0  # empty bins in one, in the other, in both
    q[:, 2:5] = 0
    return p, q


def test_kl_is_scipys_relative_entropy(histograms):
    p, q = histograms
    q = q + 1.0
    np.testing.assert_allclose(kl(p, q, smoothing=0.0), entropy(p, q, axis=1), rtol=1e-12)
    assert np.isinf(kl(*histograms, smoothing=0.0)).all()
    assert np.isfinite(kl(*histograms)).all()


def test_kl_smoothing_is_added_to_shares():
    p, q = np.array([30.0, 10.0, 0.0]), np.array([0.0, 1.0, 1.0])
    smooth_p, smooth_q = (np.array([0.75, 0.25, 0.0]) + 0.01) / 1.03, (np.array([0.0, 0.5, 0.5]) + 0.01) / 1.03
    assert kl(p, q, smoothing=0.01) == pytest.approx(entropy(smooth_p, smooth_q), rel=1e-12)


def test_js_is_the_square_of_scipys_distance(histograms):
    np.testing.assert_allclose(js(*histograms), distance.jensenshannon(*histograms, axis=1) ** 2, rtol=1e-10)
    assert js([1, 0], [0, 1]) == pytest.approx(np.log(2))


def test_wasserstein_is_scipys_in_the_bins_unit(histograms):
    p, q = histograms
    expected = [wasserstein_distance(CENTRES, CENTRES, a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(wasserstein(p, q, centres=CENTRES), expected, rtol=1e-12)
    shifted = np.roll(np.eye(20)[5], 3)
    assert wasserstein(np.eye(20)[5], shifted, centres=CENTRES) == pytest.approx(9 / 19)


def test_cosine_is_scipys(histograms):
    expected = [distance.cosine(a, b) for a, b in zip(*histograms, strict=True)]
    np.testing.assert_allclose(cosine(*histograms), expected, rtol=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_every_divergence_scales_broadcasts_and_vanishes_on_itself(name, histograms):
    measure = named(name, centres=CENTRES)
    p, q = histograms
    np.testing.assert_allclose(measure(p, 17 * p), 0, atol=1e-12)
    assert (measure(p, q) > 0).all()
    table = measure(p[:, None], q[None])
    assert table.shape == (7, 7)
    assert table[2, 5] == pytest.approx(measure(p[2], q[5]), rel=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.filterwarnings("error")
def test_an_empty_histogram_gives_nan_and_no_warning(name):
    found = named(name, centres=CENTRES)(np.stack([np.zeros(20), np.ones(20)]), np.ones(20))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(0, abs=1e-12)


def test_an_unknown_name_is_refused():
    with pytest.raises(DataError, match="js, kl, wasserstein, cosine"):
        named("jensen", centres=CENTRES)
