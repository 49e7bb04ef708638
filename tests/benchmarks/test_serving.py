import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import page, serving
from benchmarks.latency_lines import latency_markdown
from c2al.serving.artefact import open_artefact
from c2al.serving.export import export, model_of
from c2al.serving.triton import random_inputs
from tests import runs


@pytest.mark.slow
def test_a_small_one(tiny_rows, tmp_path, monkeypatch, capsys):
    """Two runs, one form: every cell is measured, and the page is made of what is kept."""
    folders = {}
    for method in ("baseline", "c2al"):
        folders[method] = tmp_path / method
        runs.trained(tiny_rows, folders[method], f"method={method}", *runs.PAIR)
        serving.process_group.stop()
    monkeypatch.setattr(serving, "record", lambda what, payload: _kept(tmp_path, what, payload))
    own = ["--baseline", str(folders["baseline"]), "--c2al", str(folders["c2al"])]
    serving.main([*own, "--batches", "1", "8", "--forms", "eager", "--dtypes", "fp32", "--seconds", "0"])
    found = json.loads((tmp_path / "serving.json").read_text())
    assert set(found["cells"]) == {f"{form} fp32 {run}" for form in ("eager", "plain") for run in folders}
    assert found["ratios"]["eager fp32"]["file"] == pytest.approx(1, abs=0.05)
    about = {"hardware": {"processor": "p", "cores": 2}, "versions": {"torch": "2"}, "date": "2026-01-01T00:00:00"}
    (tmp_path / "serving.json").write_text(json.dumps(found | about | {"what": "serving"}))
    assert "C2AL : baseline" in page.section(tmp_path / "serving.json", beside=Path())
    assert "| eager fp32 c2al |" in latency_markdown(found | about)


def _kept(folder: Path, what: str, payload: dict) -> Path:
    path = folder / f"{what}.json"
    path.write_text(json.dumps(payload))
    return path


@pytest.mark.slow
def test_plain_torch_is_the_same_model(tiny_rows, tmp_path):
    runs.trained(tiny_rows, tmp_path / "run", "method=c2al", *runs.PAIR)
    serving.process_group.stop()
    export(str(tmp_path / "run"), to=str(tmp_path / "m.pt2"), say=lambda _: None)
    artefact = open_artefact(str(tmp_path / "m.pt2"))
    plain = serving.Plain(artefact, model_of(str(tmp_path / "run"), step=None, dtype="fp32")).eval()
    inputs = random_inputs(artefact, 33)
    np.testing.assert_allclose(plain(inputs).numpy(), artefact(inputs), atol=1e-6)
