import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import page, serving_load
from benchmarks.serving_clients import Answers
from benchmarks.serving_load import summary
from benchmarks.serving_rows import Rows, body
from c2al.serving.encode import Encoder
from tests.serving.fake_model import COUNTRIES, SCHEMA, FakeArtefact, FakeColumns
from tests.serving.test_serve import Served

MANIFEST = {
    "dense": [{"name": "age", "transform": "none", "mean": 40.0, "std": 10.0}],
    "sparse": [
        {"name": "country", "num_rows": 4, "vocabulary": "vocabularies/country.parquet"},
        {"name": "city", "num_rows": 101, "hashed": True},
        {"name": "seen", "num_rows": 5, "multi": True, "vocabulary": "vocabularies/seen.parquet"},
    ],
}
POLICY = {"unknown": "error", "null": "error", "missing": "error"}


@pytest.mark.parametrize("prepared", [False, True])
def test_rows_are_ones_that_the_model_knows(prepared):
    fake = FakeArtefact()
    table = Rows(MANIFEST, None if prepared else fake.vocabulary).table(200)
    inputs = Encoder(SCHEMA, FakeColumns(), fake.vocabulary, POLICY, prepared=prepared)(table, file="rows")
    assert len(inputs) == 200
    assert len(np.unique(inputs.ids_BS[:, 0])) == len(COUNTRIES) + prepared
    content, kind = body(table, "json")
    assert len(json.loads(content)["rows"]) == 200
    assert kind == "application/json"
    with pa.ipc.open_stream(body(table, "arrow")[0]) as stream:
        assert stream.read_all().equals(table)


def test_a_case_in_figures():
    answers = Answers([0.001 * i for i in range(1, 101)], {"200": 100, "503": 7}, 2.0)
    inside = {"runs": 10.0, "run_rows": 400.0, "model_s": 1.0, "encode_s": 0.5}
    found = summary(answers, 4, inside)
    assert (found["requests_per_s"], found["rows_per_s"], found["errors"]) == (50, 200, 7)
    assert (found["p50_ms"], found["p99_ms"]) == (pytest.approx(50.5), pytest.approx(99.01))
    assert (found["rows_per_run"], found["model_share"], found["encode_ms"]) == (40, 0.5, 5)
    nothing = summary(Answers([], {"503": 1}, 2.0), 4, dict.fromkeys(inside, 0.0))
    assert (nothing["p50_ms"], nothing["rows_per_run"], nothing["errors"]) == (None, None, 1)


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.record.record.__kwdefaults__", {"folder": tmp_path})
    service = Served(tmp_path)
    try:
        words = [f"url=http://127.0.0.1:{service.ready().port}", "--seconds", "0.3", "--processes", "1"]
        serving_load.main([*words, "--rows", "1", "3", "--concurrency", "1", "2"])
    finally:
        service.process.kill()
        service.process.wait()
        service.process.stdout.close()
    (path,) = tmp_path.glob("serving_load_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    assert [(c["form"], c["rows"], c["concurrency"]) for c in found["cases"]][:3] == [
        *(("json", 1, 1), ("json", 1, 2), ("json", 3, 1)),
    ]
    assert len(found["cases"]) == 8
    assert all(case["requests"] > 0 and case["errors"] == 0 for case in found["cases"]), found["cases"]
    capsys.readouterr()
    page.main([str(path)])
    text = capsys.readouterr().out
    assert "fake (export, float32), prepared rows of 1 numbers, 2 single ids, 1 bags" in text
    assert len(re.findall(r"^\| (json|arrow) \|", text, re.MULTILINE)) == 8
