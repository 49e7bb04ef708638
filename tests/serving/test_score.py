import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al import verbs
from c2al.cli import compose, run
from c2al.schema import DataError, Schema
from c2al.serving import score as module
from c2al.serving.calibration import probabilities
from c2al.serving.score import Scored, score, words
from tests import runs
from tests.data.raw_rows import NUM, prepared, raw_rows, write
from tests.serving.fake_artefact import OPENED, fake_model, open_fake


@pytest.fixture
def folder(tmp_path):
    table = raw_rows().append_column("weight", pa.array(np.random.default_rng(0).uniform(1, 5, NUM).astype(np.float32)))
    raw = write(tmp_path, table)
    prepared(raw, unit="user_id", weight="weight")
    return raw


@pytest.fixture
def model(folder, tmp_path):
    return fake_model(tmp_path, Schema.load(f"{folder}_prepared"), f"{folder}_prepared")


def scored(model: str, data: str, tmp_path: Path, **options) -> tuple[pa.Table, Scored]:
    to = str(tmp_path / "scores.parquet")
    found = score(model, data=data, to=to, opener=open_fake, **options)
    return pq.read_table(to), found


def test_raw_and_prepared_rows_have_the_same_scores(folder, model, tmp_path):
    raw, of_raw = scored(model, folder, tmp_path, keep=["title", "tags"], batch_rows=900)
    assert raw.column_names == ["row", "logit", "probability", "label", "weight", "unit", "title", "tags"]
    assert raw["row"].to_pylist() == list(range(NUM))
    assert raw["title"].equals(raw_rows()["title"])
    assert (of_raw.rows, of_raw.prepared) == (NUM, False)
    rows = []
    for split in ("train", "validation", "test"):
        table, found = scored(model, f"{folder}_prepared", tmp_path, split=split, keep=["cohort_country"])
        assert table["row"].to_pylist() == list(range(table.num_rows))
        assert found.prepared
        rows += [tuple(row.values()) for row in table.select(["logit", "label", "weight", "unit"]).to_pylist()]
    assert sorted(rows) == sorted(
        tuple(row.values()) for row in raw.select(["logit", "label", "weight", "unit"]).to_pylist()
    )


def test_several_processes_give_what_one_gives(folder, model, tmp_path):
    alone, _ = scored(model, folder, tmp_path, batch_rows=500)
    steps = []
    several, _ = scored(model, folder, tmp_path, batch_rows=500, workers=2, progress=lambda *at: steps.append(at))
    assert several.equals(alone)
    assert steps[-1] == (NUM, NUM)


def test_probabilities_are_calibrated_and_metrics_are_of_them(folder, model, tmp_path):
    plain, found = scored(model, folder, tmp_path)
    np.testing.assert_allclose(
        plain["probability"], probabilities(plain["logit"].to_numpy(), {"kind": "none"}), rtol=1e-6
    )
    assert found.metrics["overall"]["rows"] == NUM
    p, y, w = (plain[name].to_numpy().astype(np.float64) for name in ("probability", "label", "weight"))
    loss = -np.average(np.where(y == 1, np.log(p), np.log(1 - p)), weights=w)
    assert found.metrics["overall"]["log_loss"] == pytest.approx(loss, rel=1e-6)
    kept, corrected = scored(model, folder, tmp_path, calibration={"kind": "sampling", "kept": 0.1})
    np.testing.assert_allclose(kept["probability"], 0.1 * p / (1 - p + 0.1 * p), rtol=1e-5)
    assert corrected.metrics["overall"]["calibration"] < found.metrics["overall"]["calibration"]
    curve = {"kind": "isotonic", "logit": [-2.0, 0.0], "probability": [0.1, 0.4]}
    own = fake_model(tmp_path, Schema.load(f"{folder}_prepared"), f"{folder}_prepared", calibration=curve)
    bent, by_curve = scored(own, folder, tmp_path)
    np.testing.assert_allclose(bent["probability"], np.interp(bent["logit"], [-2, 0], [0.1, 0.4]), rtol=1e-5)
    assert by_curve.calibration == curve
    assert "isotonic" in next(iter(words(by_curve, "x")))
    assert "not calibrated" in next(iter(words(found, "x")))
    assert "kept 0.1" in next(iter(words(corrected, "x")))


def test_rows_without_labels_have_no_metrics(folder, model, tmp_path):
    pq.write_table(raw_rows().drop_columns(["clicked"]), tmp_path / "bare.parquet")
    table, found = scored(model, str(tmp_path / "bare.parquet"), tmp_path)
    assert table.column_names == ["row", "logit", "probability", "unit"]
    assert found.metrics is None
    assert len(list(words(found, "x"))) == 1


def test_policies_are_the_models_own_unless_others_are_said(folder, tmp_path):
    schema = Schema.load(f"{folder}_prepared")
    strict = fake_model(tmp_path, schema, f"{folder}_prepared", policy={"unknown": "zero", "null": "error"})
    with pytest.raises(DataError, match=r"(?s)(null|no finite number) in row \d+ .*a\.parquet"):
        scored(strict, folder, tmp_path)
    assert not (tmp_path / "scores.parquet").exists()
    scored(strict, folder, tmp_path, policy={"null": "zero", "unknown": None})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_row_that_does_not_encode_is_named_and_nothing_written(folder, model, tmp_path, workers):
    with pytest.raises(DataError, match=r"unknown value in row 0 .*column user_id"):
        scored(
            model,
            write(tmp_path, raw_rows().set_column(0, "user_id", pa.array([-5] * NUM))),
            tmp_path,
            policy={"unknown": "error"},
            batch_rows=300,
            workers=workers,
        )
    assert not list(tmp_path.glob("scores*"))


def test_a_worker_that_is_killed_ends_everything_with_one_error(folder, tmp_path):
    dies = fake_model(tmp_path, Schema.load(f"{folder}_prepared"), f"{folder}_prepared", dies_at=1000)
    with pytest.raises(DataError, match=r"SIGKILL.*workers"):
        scored(dies, folder, tmp_path, workers=2, batch_rows=300)
    assert not list(tmp_path.glob("scores*"))


def test_a_model_that_fails_or_gives_no_number_says_where(folder, tmp_path):
    schema = Schema.load(f"{folder}_prepared")
    with pytest.raises(DataError, match=r"no finite logit in row 900 .*a\.parquet"):
        scored(fake_model(tmp_path, schema, f"{folder}_prepared", nan_at=1000), folder, tmp_path, batch_rows=300)
    with pytest.raises(RuntimeError, match="the model is broken"):
        scored(fake_model(tmp_path, schema, f"{folder}_prepared", fails_at=100), folder, tmp_path, workers=2)


def test_prepared_rows_of_another_model_are_refused(folder, tmp_path):
    other = write(tmp_path, raw_rows(seed=7).slice(0, NUM // 2))
    os.rename(f"{folder}_prepared", tmp_path / "first")
    prepared(other, unit="user_id", weight=None)
    model = fake_model(tmp_path, Schema.load(str(tmp_path / "first")), str(tmp_path / "first"))
    with pytest.raises(DataError, match=r"column user_id.*num_rows|num_rows.*column user_id"):
        scored(model, f"{folder}_prepared", tmp_path, split="test")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "scores.csv"}, "parquet"),
        ({"to": "{data}/scores.parquet"}, "among the data"),
        ({"data": "{data}/a.parquet", "to": "{data}/a.parquet"}, "place"),
        ({"to": "{tmp}/model.json/scores.parquet"}, "written there"),
        ({"data": "{tmp}/nothing"}, "no such file"),
        ({"data": "{tmp}/model.json"}, "model.json"),
        ({"model": "{tmp}/none.pt2"}, "no model there"),
        ({"keep": ["logit"]}, "column logit"),
        ({"keep": ["titel"]}, "did you mean title"),
        ({"batch_rows": 0}, "batch_rows"),
        ({"workers": 0}, "workers"),
        ({"prepared": True}, "these are raw rows, not prepared data"),
        ({"policy": {"null": "none"}}, "null=none"),
        ({"needs": "isotonic"}, "no calibration of kind isotonic"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(folder, model, tmp_path, options, said):
    given = {"model": model, "data": folder, "to": str(tmp_path / "scores.parquet")} | options
    given = {
        key: value.format(data=folder, tmp=tmp_path) if isinstance(value, str) else value
        for key, value in given.items()
    }
    with pytest.raises(DataError, match=said):
        score(given.pop("model"), **given, opener=open_fake)
    assert not list(tmp_path.glob("scores*"))


def test_files_without_rows_are_refused(folder, model, tmp_path):
    pq.write_table(raw_rows().slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no rows"):
        scored(model, str(tmp_path / "none.parquet"), tmp_path)


def test_urls_are_read_and_written(folder, model):
    import fsspec

    with fsspec.open("memory://score/rows/a.parquet", "wb") as file:
        pq.write_table(raw_rows(), file)
    found = score(model, data="memory://score/rows", to="memory://score/out/s.parquet", opener=open_fake)
    assert found.rows == NUM
    with fsspec.open("memory://score/out/s.parquet", "rb") as file:
        assert pq.read_table(file).num_rows == NUM


def test_being_killed_leaves_no_file_of_that_name(folder, model, tmp_path):
    code = (
        "import os, signal\n"
        "from c2al.serving.score import score\n"
        "from tests.serving.fake_artefact import open_fake\n"
        "def die(done, total):\n"
        "    if done > 1000: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"score({model!r}, data={folder!r}, to={str(tmp_path / 'scores.parquet')!r},\n"
        "      opener=open_fake, batch_rows=300, progress=die)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=runs.ROOT, env=runs.environment(), check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "scores.parquet").exists()
    scored(model, folder, tmp_path)
    assert [path.name for path in tmp_path.glob("scores*")] == ["scores.parquet"]


def test_the_verb_composes_scores_and_prints(folder, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "opened", open_fake)
    monkeypatch.setattr(module.score, "__kwdefaults__", {**module.score.__kwdefaults__, "opener": open_fake})
    OPENED.clear()
    to = str(tmp_path / "scores.parquet")
    given = [f"model={model}", f"data={folder}_prepared", "split=test", f"to={to}"]
    assert run("score", [*given, "calibration=sampling", "kept=0.5", "keep=[cohort_country]"]) == 0
    said = capsys.readouterr().out
    assert "kept 0.5" in said
    assert "rows/s" in said
    assert "NE" in said
    assert [model] == OPENED
    assert pq.read_table(to).column_names[-1] == "cohort_country"
    assert run("score", [*given, "calibration=isotonic", f"scores={to}", "policy.null=error"]) == 0
    for wrong, said in (
        (["kept=0.5"], "calibration=sampling"),
        (["calibration=isotonic"], "no calibration of kind isotonic"),
        (["calibration=sampling"], "share"),
        (["calibration=platt"], "platt"),
    ):
        with pytest.raises(DataError, match=said):
            verbs.score(compose("score", [*given, *wrong]))


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_are_those_of_evaluate(run, file, tiny_rows, tmp_path, workers):
    """The real model: normalized entropy of a prepared split as `c2al evaluate` has it, and raw rows alike."""
    from c2al.parallel import ranks
    from c2al.training.evaluate_run import evaluate_run

    expected = evaluate_run(run, split="test", step=None, axes=[])["overall"]
    ranks.stop()
    to = str(tmp_path / "scores.parquet")
    found = score(file, data=tiny_rows, split="test", to=to, workers=workers).metrics["overall"]
    for name in ("ne", "auc", "calibration", "log_loss"):
        assert found[name] == pytest.approx(expected[name], abs=1e-6)
    assert (found["rows"], found["weight"]) == (expected["rows"], expected["weight"])
    theirs = pq.read_table(f"{run}/scores/test.parquet")
    ours = pq.read_table(to)
    np.testing.assert_allclose(ours["logit"].to_numpy(), theirs["logit"].to_numpy(), atol=1e-5)
    for name in ("row", "label", "weight", "unit"):
        if name in ours.column_names:
            np.testing.assert_array_equal(ours[name].to_numpy(), theirs[name].to_numpy())


def test_a_file_that_is_replaced_between_two_processes_is_refused(folder, model):
    known = open_fake(model).manifest
    module.Scorer(open_fake, model, {}, True, known)
    with pytest.raises(DataError, match=r"was replaced while it was opened.*model\.json"):
        module.Scorer(open_fake, model, {}, True, {**known, "created": "another"})
