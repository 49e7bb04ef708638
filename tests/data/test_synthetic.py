import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from scipy.stats import f_oneway
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import OneHotEncoder

from c2al.cohorts import axes
from c2al.data import synthetic
from c2al.data.synthetic_world import CHUNK, GAINS, PAIR, SEGMENTS, STRENGTH, draw, make_world
from c2al.schema import SPLITS, DataError, Schema


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("synthetic") / "data")
    return folder, synthetic.prepare(to=folder, rows=100_000, seed=3)


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


def test_the_folder_is_what_its_schema_says(prepared):
    folder, schema = prepared
    assert Schema.load(folder) == schema
    for split, num in zip(SPLITS, (80_000, 10_000, 10_000), strict=True):
        table = pq.read_table(f"{folder}/{split}")
        assert table.num_rows == schema.splits[split].rows == num
        for column in schema.sparse:
            values = table[column.name]
            kind = pa.list_(pa.int32()) if column.multi else pa.int32()
            flat = (values.combine_chunks().flatten() if column.multi else values).to_numpy()
            assert values.type == kind
            assert 1 <= flat.min() <= flat.max() < column.num_rows
        for dense in schema.dense:
            values = table[dense.name].to_numpy()
            assert abs(values.mean()) < 0.2
            assert 0.8 < values.std() < 1.2
        for axis in schema.axes:
            ids = table[axis.column].to_numpy()
            assert ids.dtype == np.int16
            assert set(ids) == set(range(len(axis.cohorts)))
        assert set(table["label"].to_numpy()) == {0, 1}
        assert table["unit"].type == pa.int32()


def test_bayes_entropies_are_those_of_the_true_probabilities(prepared):
    folder, schema = prepared
    drawn = [
        draw(make_world(seed=3, num_users=20_000, contrast=1.0, positive_rate=0.1), seed=3, chunk=c) for c in (0, 1)
    ]
    probability = np.concatenate([p for _, p in drawn])[90_000:100_000]
    table = pq.read_table(f"{folder}/test")
    label, segment = table["label"].to_numpy(), table["cohort_segment"].to_numpy()
    assert np.array_equal(label, np.concatenate([c["label"] for c, _ in drawn])[90_000:100_000])
    rate = label.mean()
    loss = log_loss(label, probability)
    assert schema.notes["bayes_log_loss"]["test"]["overall"] == pytest.approx(loss, rel=1e-9)
    entropy = log_loss(label, np.full(len(label), rate))
    assert schema.notes["bayes_ne"]["test"]["overall"] == pytest.approx(loss / entropy, rel=1e-9)
    by_segment = schema.notes["bayes_log_loss"]["test"]["cohorts"]["segment"]
    for i, name in enumerate(SEGMENTS):
        assert by_segment[name] == pytest.approx(log_loss(label[segment == i], probability[segment == i]), rel=1e-9)


def test_signal_is_of_the_size_that_was_asked_for(prepared):
    _, schema = prepared
    train = schema.splits["train"]
    assert train.positives / train.rows == pytest.approx(0.1, abs=0.005)
    assert 0.72 < schema.notes["bayes_ne"]["train"]["overall"] < 0.85


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


def test_fewer_rows_are_a_prefix_of_more_and_a_seed_is_a_seed(tmp_path):
    small, large, other = (str(tmp_path / name) for name in ("small", "large", "other"))
    synthetic.prepare(to=small, rows=1_000, seed=7)
    synthetic.prepare(to=large, rows=70_000, seed=7)
    synthetic.prepare(to=other, rows=1_000, seed=8)
    first = pq.read_table(f"{small}/train")
    assert first.equals(pq.read_table(f"{large}/train").slice(0, 800))
    assert not first.equals(pq.read_table(f"{other}/train"))


def test_contrast_changes_labels_and_nothing_else():
    none, full = (
        draw(make_world(seed=0, num_users=500, contrast=c, positive_rate=0.1), seed=0, chunk=4)[0] for c in (0.0, 1.0)
    )
    assert all(np.array_equal(none[name], full[name]) for name in none if name != "label")
    assert not np.array_equal(none["label"], full["label"])


def test_progress_counts_rows_to_the_end(tmp_path):
    seen = []
    synthetic.prepare(to=str(tmp_path / "x"), rows=CHUNK + 10, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(CHUNK, CHUNK + 10), (CHUNK + 10, CHUNK + 10)]


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 3}, {"contrast": 1.5}, {"contrast": -0.1}, {"positive_rate": 0.0}, {"num_users": 0}, {"seed": -1}],
)
def test_values_outside_their_range_are_refused(tmp_path, wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        synthetic.prepare(to=str(tmp_path / "x"), **wrong)
    assert not list(tmp_path.iterdir())


def test_few_users_and_high_rates_work_too(tmp_path):
    schema = synthetic.prepare(to=str(tmp_path / "x"), rows=5_000, num_users=1, positive_rate=0.5)
    assert schema.splits["train"].positives / 4_000 == pytest.approx(0.5, abs=0.1)
    missing = [name for name, ne in schema.notes["bayes_ne"]["test"]["cohorts"]["segment"].items() if ne is None]
    assert len(missing) == len(SEGMENTS) - 1
