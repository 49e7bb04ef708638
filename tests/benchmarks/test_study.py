import json

from benchmarks.study import main


def test_numbers_and_page_without_paths(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    cell = {"arm": "c2al", "axis": "overall", "cohort": "all", "seeds": ["0", "1"], "rows": 10, "positives": 1}
    cell |= {"difference": -0.1, "low": -0.2, "high": 0.0, "p": 0.05, "p_holm": 0.05, "mde": 0.1, "ne_reference": 0.7}
    cell |= {"verdict": "cannot be told from zero", "per_seed": {"0": -0.2, "1": 0.0}}
    study = {"name": "tiny", "reference": "baseline", "split": "test", "c2al": "0", "commit": "c", "created": "now"}
    study |= {"data": {"path": "/there", "name": "rows", "rows": {"test": 10}, "positives": {"test": 1}}, "pair": None}
    study |= {"config": {"run_dir": "/there/run", "data": {"path": "/there"}, "seed": 1}, "cells": [cell]}
    study |= {"arms": {"baseline": {}, "c2al": {}}}
    layer = {"arm": "c2al", "layer": "y", "role": "attention", "kind": "parameter", "step": 0, "measures": {}}
    study |= {"density": [layer | {"moment": moment} for moment in ("start", "step 5", "end")]}
    (folder / "study.json").write_text(json.dumps(study))
    path = main([str(folder), "--page", str(tmp_path / "page.md")], results=tmp_path)
    kept = json.loads(path.read_text())["study"]
    assert "/there" not in path.read_text()
    assert kept["config"] == {"data": {}, "seed": 1}
    assert [row["moment"] for row in kept["density"]] == ["start", "end"]
    assert kept["cells"] == study["cells"]
    assert "−0.100" in (tmp_path / "page.md").read_text(encoding="utf-8")
