import numpy as np
import pytest
import scipy.sparse
from scipy.stats import f_oneway
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import OneHotEncoder

from c2al.cohorts import axes
from c2al.data.synthetic_world import CHUNK, GAINS, PAIR, SEGMENTS, STRENGTH, draw, make_world


def chunks(seed: int, contrast: float, num: int = 1) -> tuple[dict[str, np.ndarray], np.ndarray]:
    world = make_world(seed=seed, num_users=20_000, contrast=contrast, positive_rate=0.1)
    drawn = [draw(world, seed=seed, chunk=chunk) for chunk in range(num)]
    columns = {name: np.concatenate([part[0][name] for part in drawn]) for name in drawn[0][0]}
    columns["activity"] = axes.apply(world.activity, columns["activity"])
    return columns, np.concatenate([part[1] for part in drawn])


def js(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two samples of probabilities, in 40 bins of their logit."""
    hists = [np.histogram(np.log(x / (1 - x)), bins=40, range=(-8, 4))[0] + 1e-9 for x in (p, q)]
    a, b = (hist / hist.sum() for hist in hists)
    m = (a + b) / 2
    return float((a * np.log(a / m) + b * np.log(b / m)).sum() / 2)


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_pair_differs_most_of_all_pairs_on_all_axes(seed):
    columns, probability = chunks(seed, contrast=1.0, num=2)
    found = []
    for axis in ("segment", "region", "device", "activity"):
        of = [probability[columns[axis] == i] for i in range(columns[axis].max() + 1)]
        found += [(js(of[i], of[j]), axis, {i, j}) for i in range(len(of)) for j in range(i)]
    _, axis, pair = max(found, key=lambda one: one[0])
    head, tail = SEGMENTS.index(PAIR["head"]), SEGMENTS.index(PAIR["tail"])
    assert (axis, pair) == (PAIR["axis"], {head, tail})
    assert probability[columns["segment"] == head].mean() > probability[columns["segment"] == tail].mean()


def test_without_contrast_no_axis_says_anything():
    p_values = []
    for seed in range(5):
        columns, probability = chunks(seed, contrast=0.0)
        for axis in ("segment", "region", "device", "activity"):
            p_values.append(f_oneway(*(probability[columns[axis] == i] for i in np.unique(columns[axis]))).pvalue)
    assert min(p_values) > 0.05 / len(p_values) / 10
    assert 0.2 < np.mean(p_values) < 0.8


def test_a_history_adds_columns_and_a_term_in_which_its_order_counts():
    """Each segment's gain on it; turned round, the same items say next to nothing more."""
    plain, world = (
        make_world(seed=1, num_users=20_000, contrast=1.0, positive_rate=0.1, history=length) for length in (0, 12)
    )
    (before, _), (columns, probability) = (draw(each, seed=1, chunk=0) for each in (plain, world))
    assert all(np.array_equal(columns[name], values) for name, values in before.items() if name != "label")
    assert probability.mean() == pytest.approx(0.1, rel=0.05)
    vector, logit = world.item["vector"], np.log(probability / (1 - probability))
    rows = np.flatnonzero((columns["num_items"] > 2) & (columns["segment"] == SEGMENTS.index("loyal")))
    forward, backward = np.zeros((2, len(rows)))
    for i, row in enumerate(rows):
        history = columns["items"][row, : columns["num_items"][row]]
        alike = vector[history] @ vector[columns["item"][row]]
        weight = 0.5 ** np.arange(len(history))
        forward[i], backward[i] = (alike[::-1] * weight).sum() / weight.sum(), (alike * weight).sum() / weight.sum()
    both = np.stack([forward, backward, np.ones(len(rows))], axis=1) / world.items[1]
    slope = np.linalg.lstsq(both, logit[rows], rcond=None)[0]
    assert slope[0] == pytest.approx(STRENGTH * GAINS[1], rel=0.1)
    assert abs(slope[1]) < 0.1 * slope[0]


@pytest.mark.parametrize("contrast", [0.0, 0.5, 1.0])
def test_the_slope_on_the_affinity_is_the_gain(contrast):
    world = make_world(seed=1, num_users=20_000, contrast=contrast, positive_rate=0.1)
    columns, probability = draw(world, seed=1, chunk=0)
    user, item = columns["user"], columns["item"]
    by_taste = (world.user["vector"][user] * world.item["vector"][item]).sum(axis=1)
    similarity = world.category["similarity"]
    by_recent = np.array(
        [
            similarity[r[:n], c].mean() if n else np.nan
            for r, n, c in zip(columns["recent"], columns["num_recent"], columns["category"], strict=True)
        ]
    )
    affinity = (by_taste - by_taste.mean()) / by_taste.std()
    affinity += np.nan_to_num((by_recent - np.nanmean(by_recent)) / np.nanstd(by_recent))
    logit = np.log(probability / (1 - probability))
    for i, gain in enumerate(GAINS):
        rows = columns["segment"] == i
        slope = np.polyfit(affinity[rows], logit[rows], 1)[0]
        assert slope == pytest.approx(STRENGTH * (1 + contrast * (gain - 1)), abs=0.04)


def test_main_effects_alone_explain_little():
    columns, probability = chunks(0, contrast=1.0, num=2)
    names = ("item", "category", "brand", "price_band", "taste", "segment", "region", "age_band", "hour")
    x = OneHotEncoder().fit_transform(np.stack([columns[name] for name in names], axis=1))
    x = scipy.sparse.hstack([x, np.log1p(columns["recency"])[:, None]]).tocsr()
    label, half = columns["label"], CHUNK
    model = LogisticRegression(C=0.05, max_iter=100).fit(x[:half], label[:half])
    constant = log_loss(label[half:], np.full(half, label[half:].mean()))
    by_main_effects = log_loss(label[half:], model.predict_proba(x[half:])[:, 1]) / constant
    assert by_main_effects > 0.9 > 0.82 > log_loss(label[half:], probability[half:]) / constant


def test_contrast_changes_labels_and_nothing_else():
    none, full = (
        draw(make_world(seed=0, num_users=500, contrast=c, positive_rate=0.1), seed=0, chunk=4)[0] for c in (0.0, 1.0)
    )
    assert all(np.array_equal(none[name], full[name]) for name in none if name != "label")
    assert not np.array_equal(none["label"], full["label"])
