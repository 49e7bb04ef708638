import json
import sys
from pathlib import Path

import numpy as np
import pytest

import benchmarks.scoring
from c2al.serving import score as module
from c2al.serving.score import Scored


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> dict:
    monkeypatch.setattr(sys, "argv", ["scoring", *words])
    monkeypatch.setattr("benchmarks.record.record.__kwdefaults__", {"folder": folder})
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    benchmarks.scoring.main()
    (path,) = folder.iterdir()
    return json.loads(path.read_text())


def test_a_small_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmarks.scoring, "VOCABULARIES", (10, 100, 10_000))
    monkeypatch.setattr(benchmarks.scoring, "BATCH_ROWS", (500, 1))
    written = run(monkeypatch, tmp_path, "--rows", "2000", "--seconds", "0.1")
    assert [line["batch_rows"] for line in written["encoding"]] == [500, 1]
    assert "wanted: 300,000 rows/s" in capsys.readouterr().out


def test_a_model_is_timed_with_each_number_of_workers(tmp_path, monkeypatch):
    scored = Scored(1000, 0.5, True, {"kind": "none"}, None, None)
    monkeypatch.setattr(module, "score", lambda model, **given: scored)
    written = run(monkeypatch, tmp_path, "--model", "m.pt2", "--data", "d", "--split", "test")
    assert [(line["workers"], line["rows_per_s"]) for line in written["scoring"]] == [(1, 2000), (2, 2000)]


def test_rows_are_of_twenty_columns_and_known_but_for_some(monkeypatch):
    monkeypatch.setattr(benchmarks.scoring, "VOCABULARIES", (10, 100, 10_000))
    encode, table = benchmarks.scoring.encoder_and_rows(3000)
    found = encode(table, file="x")
    assert 0.85 < (found.ids_BS[:, 1] > 0).mean() < 0.97
    assert np.isfinite(found.dense_BN).all()
