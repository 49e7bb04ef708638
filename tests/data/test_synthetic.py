import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss

from c2al.data import synthetic
from c2al.data.synthetic_world import CHUNK, SEGMENTS, draw, make_world
from c2al.schema import SPLITS, DataError, Schema


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("synthetic") / "data")
    return folder, synthetic.prepare(to=folder, rows=100_000, seed=3)


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


def test_a_history_is_one_column_more(tmp_path):
    """The last items, oldest first as they were drawn; what else is in a row is the same, labels are others."""
    plain, schema = (synthetic.prepare(to=str(tmp_path / str(h)), rows=3_000, history=h) for h in (0, 5))
    assert [column.name for column in schema.sparse] == [*(column.name for column in plain.sparse), "recent_items"]
    assert (plain.notes["history"], schema.notes["history"]) == (0, 5)
    tables = [pq.read_table(f"{tmp_path}/{h}/train") for h in (0, 5)]
    assert all(tables[0][name].equals(tables[1][name]) for name in tables[0].column_names if name != "label")
    world = make_world(seed=0, num_users=20_000, contrast=1.0, positive_rate=0.1, history=5)
    columns, _ = draw(world, seed=0, chunk=0)
    found = tables[1]["recent_items"].to_pylist()
    assert found == [(columns["items"][i, : columns["num_items"][i]] + 1).tolist() for i in range(len(found))]
    assert {len(each) for each in found} == set(range(6))


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


def test_fewer_rows_are_a_prefix_of_more_and_a_seed_is_a_seed(tmp_path):
    small, large, other = (str(tmp_path / name) for name in ("small", "large", "other"))
    synthetic.prepare(to=small, rows=1_000, seed=7)
    synthetic.prepare(to=large, rows=70_000, seed=7)
    synthetic.prepare(to=other, rows=1_000, seed=8)
    first = pq.read_table(f"{small}/train")
    assert first.equals(pq.read_table(f"{large}/train").slice(0, 800))
    assert not first.equals(pq.read_table(f"{other}/train"))


def test_progress_counts_rows_to_the_end(tmp_path):
    seen = []
    synthetic.prepare(to=str(tmp_path / "x"), rows=CHUNK + 10, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(CHUNK, CHUNK + 10), (CHUNK + 10, CHUNK + 10)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 3},
        {"contrast": 1.5},
        {"contrast": -0.1},
        {"positive_rate": 0.0},
        {"num_users": 0},
        {"seed": -1},
        {"history": 201},
    ],
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
