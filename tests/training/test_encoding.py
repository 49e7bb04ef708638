"""A run goes on only with ids that mean what they did when it was trained."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from c2al.data.prepare import prepare_parquet
from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn
from c2al.training import encoding
from c2al.training.evaluate_run import evaluate_run
from c2al.training.saved_run import SavedRun
from tests import runs


@pytest.fixture
def folder(tmp_path):
    def put(values, name="item", ids=None):
        path = tmp_path / "vocabularies" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        ids = np.arange(1, len(values) + 1) if ids is None else ids
        pq.write_table(pa.table({"value": values, "id": ids}), path)
        return Schema("x", "y", (SparseColumn(name, len(values) + 1, vocabulary=f"vocabularies/{name}.parquet"),))

    put.path = str(tmp_path)
    return put


def kept(folder, schema, **more):
    return encoding.describe(folder.path, schema, columns=["item", "price"], **more)


def test_it_is_of_the_values_and_not_of_the_file(folder):
    saved = kept(folder, folder(["a", "b", "", "é" * 40]))
    for values in (
        pa.array(["a", "b", "", "é" * 40], pa.large_string()),
        pa.array(["a", "b", "", "é" * 40]).dictionary_encode(),
        pa.array(["x", "a", "b", "", "é" * 40])[1:],
    ):
        encoding.check(saved, folder.path, folder(values), file="c")
    schema = folder(["é" * 40, "", "b", "a"], ids=[4, 3, 2, 1])
    encoding.check(saved, folder.path, schema, file="c")
    assert kept(folder, folder([1, 2]))["sparse"] == kept(folder, folder(["1", "2"]))["sparse"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a", "c"], "stand for other values"),
        (["b", "a"], "stand for other values"),
        (["ab", ""], "stand for other values"),
        (["a"], "stand for other values"),
        (["a", "b", "c"], "1 values have come to the vocabulary of .* and a run's tables do not grow"),
        (["c", "a", "b"], "stand for other values"),
    ],
)
def test_other_ids_are_refused_by_column(folder, values, said):
    saved = kept(folder, folder(["a", "b"]))
    with pytest.raises(DataError, match=rf"{said}.*file c, column item.*prepare the old and the new rows together"):
        encoding.check(saved, folder.path, folder(values), file="c")


@pytest.mark.parametrize("change", [{"hashed": True}, {"multi": True}, {"num_rows": 9}, {"part": "hour"}])
def test_other_settings_of_a_column(tmp_path, change):
    def schema(**own):
        return Schema("x", "y", (SparseColumn("item", **{"num_rows": 8, **own}),))

    saved = encoding.describe(str(tmp_path), schema(), columns=["item"])
    encoding.check(saved, str(tmp_path), schema(), file="c")
    [key] = change
    with pytest.raises(DataError, match=f"the column has {key}="):
        encoding.check(saved, str(tmp_path), schema(**change), file="c")
    with pytest.raises(DataError, match="lacks a column that the checkpoint was trained on"):
        encoding.check(saved, str(tmp_path), Schema("x", "y", ()), file="c")


def test_scales_and_cohorts(tmp_path):
    def schema(mean=1.0):
        return Schema("x", "y", (), (DenseColumn("price", "log1p", mean, 2.0),))

    axis = CohortAxis("age", ("young", "old"), "quantile", edges=(30.0,))
    saved = encoding.describe(str(tmp_path), schema(), columns=["price"], axes=[axis])
    encoding.check(saved, str(tmp_path), schema(), axes=[axis, None], file="c")
    with pytest.raises(
        DataError, match=r"transform=log1p mean=1\.5 std=2\.0, and .* transform=log1p mean=1\.0 std=2\.0"
    ):
        encoding.check(saved, str(tmp_path), schema(1.5), file="c")
    for other, what in (
        (CohortAxis("age", ("young", "old"), "quantile", edges=(31.0,)), "edges"),
        (CohortAxis("age", ("old", "young"), "quantile", edges=(30.0,)), "cohorts"),
    ):
        with pytest.raises(DataError, match=f"axis age has other {what}"):
            encoding.check(saved, str(tmp_path), schema(), axes=[other], file="c")
    encoding.check(saved, str(tmp_path), schema(), file="c")


@pytest.mark.parametrize("damage", ["missing", "no parquet", "other ids", "no value"])
def test_a_vocabulary_that_does_not_read(folder, tmp_path, damage):
    schema = folder(["a", "b"], ids=[1, 5] if damage == "other ids" else None)
    path = tmp_path / "vocabularies" / "item.parquet"
    if damage == "missing":
        path.unlink()
    elif damage == "no parquet":
        path.write_bytes(b"x")
    elif damage == "no value":
        pq.write_table(pa.table({"id": [1, 2]}), path)
    with pytest.raises(DataError, match=r"the vocabulary does not read: .*item\.parquet, column item"):
        kept(folder, schema)


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Two days of equal size, with items of their own, prepared apart."""
    root, random = tmp_path_factory.mktemp("days"), np.random.default_rng(0)
    for day in (8, 9):
        rows = {
            "user": [f"u{i}" for i in range(20)] * 20,
            "item": [f"{day}-{i}" for i in random.permutation(np.arange(400) % 30)],
            "label": random.integers(0, 2, 400),
        }
        (root / f"raw{day}").mkdir()
        pq.write_table(pa.table(rows), root / f"raw{day}" / "rows.parquet")
        prepare_parquet(
            folder=str(root / f"raw{day}"), to=str(root / f"d{day}"), label="label", sparse=["user", "item"]
        )
    return root


def words(*own):
    return ["data=parquet", "data.dense=[]", "training.steps=8", "training.batch_size=16", *own]


@pytest.fixture(scope="module")
def trained(days):
    runs.trained(str(days / "d8"), days / "run", *words())
    return days / "run"


def test_a_run_does_not_go_on_with_another_days_items(days, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    before = {path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"the ids of .*d9 stand for other values.*column item"):
        runs.trained(str(days / "d9"), run, *words("resume=true", "resume_without=[position]", "training.steps=12"))
    assert {path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()} == before
    shutil.copytree(days / "d8", tmp_path / "same")
    runs.trained(str(tmp_path / "same"), run, *words("resume=true", "resume_without=[position]", "training.steps=12"))


def test_what_was_prepared_again_in_the_same_place_is_seen(days, tmp_path):
    """By resuming, evaluating and exporting."""
    data = shutil.copytree(days / "d8", tmp_path / "data")
    run = tmp_path / "run"
    runs.trained(str(data), run, *words())
    shutil.rmtree(data)
    shutil.copytree(days / "d9", data)
    for start in (
        lambda: runs.trained(str(data), run, *words("resume=true")),
        lambda: evaluate_run(str(run), split="test", step=None, axes=None),
        lambda: SavedRun(str(run)),
    ):
        with pytest.raises(DataError, match=r"stand for other values.*column item"):
            start()


def test_of_an_older_checkpoint_it_is_said_that_nothing_is_checked(days, trained, tmp_path, capsys):
    import json

    run = shutil.copytree(trained, tmp_path / "run")
    for path in run.glob("checkpoints/*/progress.json"):
        found = json.loads(path.read_text())
        del found["sha256"], found["digest"], found["contents"]["data"]
        path.write_text(json.dumps(found | {"contents": found["contents"] | {"format": 2}}))
    capsys.readouterr()
    evaluate_run(str(run), split="test", step=None, axes=None)
    assert "has no digests: the sizes of its files are checked" in capsys.readouterr().err
    runs.trained(str(days / "d9"), run, *words("resume=true", "resume_without=[position]", "training.steps=12"))
    assert "nor whether the ids of the data still mean what they did" in capsys.readouterr().err
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["path"].endswith("d9")
