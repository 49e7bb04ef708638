import json
import sys
from pathlib import Path

import pytest

import benchmarks.reader


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["reader", "--rows", "3000", "--epochs", "1", "--batch-size", "64"])
    monkeypatch.setattr(benchmarks.reader, "_use_cores", lambda cores: None)
    monkeypatch.setattr("benchmarks.record.record.__kwdefaults__", {"folder": tmp_path})
    benchmarks.reader.main()
    (path,) = tmp_path.iterdir()
    written = json.loads(path.read_text())
    assert len(written["cases"]) == 6
    assert all(case["rows_per_s"] > 0 for case in written["cases"])
    assert "20 single, shuffled" in capsys.readouterr().out
