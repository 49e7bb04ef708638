import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from c2al.metrics import Metrics
from c2al.parallel import ranks
from c2al.schema import DataError
from c2al.serving.artefact import open_artefact
from c2al.serving.export import export
from c2al.serving.parity import inputs_of
from c2al.serving.score import score
from c2al.training.build import build_reader
from c2al.training.saved_run import SavedRun
from tests import runs

VARIANTS = {
    "a baseline": ["method=baseline"],
    "widths and sums": ["method=c2al", *runs.PAIR, "model.dims.item=4", "model.dims.user=12", "model.pooling=sum"],
    "an average, the best step": [
        *("method=c2al", *runs.PAIR, "training.average=0.9", "training.early_stopping=2", "training.evaluations=6"),
    ],
    "mmoe": ["method=mmoe", *runs.PAIR],
    "ple": ["method=ple", *runs.PAIR],
    "first-order weights": ["model=deepfm", "method=c2al", *runs.PAIR, "model.interaction.hidden=[16]"],
    "terms alone": ["model=lr", "method=c2al", *runs.PAIR],
    "a history": ["model=sasrec", "method=c2al", *runs.PAIR, "model.interaction.hidden=[16]"],
    "fm attention beside": ["model=dlrm", "model.fm_attention=true", "method=c2al", *runs.PAIR],
}
FOR_DHEN = ("model.interaction.out_features", "model.heads.hidden")  # that others lack


def trained(rows, folder, own):
    small = [word for word in runs.SMALL if not word.startswith(FOR_DHEN)]
    config = runs.compose("config", [f"data.path={rows}", "data.prepare=null", f"run_dir={folder}", *small, *own])
    from c2al.training.train import train

    report = train(config)
    ranks.stop()
    return report


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_model_scores_as_it_was_trained(variant, tiny_rows, tmp_path, quiet):
    trained(tiny_rows, tmp_path / "run", VARIANTS[variant])
    run, path = str(tmp_path / "run"), str(tmp_path / "model.pt2")
    for form in ("eager", "export"):
        manifest = export(run, to=path, format=form, say=quiet)
        scores = manifest["parity"]["scores"]
        assert scores["greatest_difference"] <= (0.0 if form == "eager" else 1e-6), form
        assert manifest["parity"]["baseline"]["same"] is (variant not in ("mmoe", "ple"))
        assert open_artefact(path).manifest["kind"] == form


def test_a_run_of_bf16_is_evaluated_and_served_in_float32(tiny_rows, tmp_path, quiet):
    """The scores that it wrote, its metrics and its file are of the same float32 forward."""
    report = trained(tiny_rows, tmp_path / "run", ["method=c2al", *runs.PAIR, "training.precision=bf16"])
    run, path = str(tmp_path / "run"), str(tmp_path / "model.pt2")
    for settings in ({"format": "eager"}, {}, {"proof": "scores"}, {"dtype": "int8"}):
        scores = export(run, to=path, say=quiet, **settings)["parity"]["scores"]
        assert scores["trained_in"] == "bf16"
        assert scores["greatest_difference"] <= (2e-2 if settings.get("dtype") else 1e-6)
        assert scores["bitwise"] or settings.get("format") != "eager"
    written = pq.read_table(f"{run}/scores/test.parquet")
    assert written.schema.field("logit").type == pa.float32()
    export(run, to=path, say=quiet)
    found = score(path, data=tiny_rows, split="test", to=str(tmp_path / "s.parquet"))
    assert found.metrics is not None
    assert found.metrics["overall"]["ne"] == pytest.approx(report["metrics"]["test"]["overall"]["ne"], abs=1e-6)
    logits = pq.read_table(tmp_path / "s.parquet")["logit"].to_numpy()
    np.testing.assert_allclose(logits, written["logit"].to_numpy(), atol=1e-5)


def test_the_file_scores_a_split_as_evaluation_does(run, file):
    """Normalized entropy of the whole test split, to 1e-6; here to the last digit."""
    artefact, saved = open_artefact(file), SavedRun(run)
    alone = ranks.start()
    reader = build_reader(saved.config, alone, split="test", axes=[], shuffle=False)
    metrics = Metrics([])
    for batch in reader.batches():
        logit_B = torch.from_numpy(artefact(inputs_of(batch, artefact.columns)))
        metrics.update(logit_B, batch.label_B, batch.weight_B, batch.cohort_BA)
    ranks.stop()
    ne = runs.report_of(Path(run))["metrics"]["test"]["overall"]["ne"]
    assert metrics.compute()["overall"]["ne"] == pytest.approx(ne, abs=1e-9)


def test_nothing_of_the_auxiliary_heads_is_in_the_file(file):
    manifest = open_artefact(file).manifest
    assert manifest["parity"]["baseline"]["same"]
    assert not any("cohort" in name for name in manifest["parity"]["baseline"]["inputs"][0])
    with zipfile.ZipFile(file) as opened:
        weights = json.loads(opened.read("model/data/weights/model_weights_config.json"))["config"]
    assert not any("towers.1" in name or "towers.2" in name for name in weights)


def test_ranks_and_plans_make_the_same_file(tiny_rows, tmp_path, quiet):
    """Trained on two ranks, row by row: gathered whole, and equal to the scores that both ranks wrote."""
    own = ["method=c2al", *runs.PAIR, "parallel=row_wise"]
    ended = runs.on_ranks(["-m", "c2al", "train", *runs.overrides(tiny_rows, tmp_path / "run", *own)])
    assert [status for status, _, _ in ended] == [0, 0], ended
    manifest = export(str(tmp_path / "run"), to=str(tmp_path / "m.pt2"), format="eager", say=quiet)
    assert manifest["parity"]["scores"]["bitwise"]
    manifest = export(str(tmp_path / "run"), to=str(tmp_path / "m.pt2"), proof="scores", say=quiet)
    assert manifest["parity"]["scores"]["greatest_difference"] < 1e-5
    assert manifest["parity"]["scores"]["against"] == "scores/validation.parquet"


@pytest.mark.parametrize(("dtype", "most"), [("fp16", 1e-3), ("int8", 2e-2)])
def test_fewer_bits_say_what_they_cost(run, tmp_path, quiet, dtype, most):
    manifest = export(run, to=str(tmp_path / "m.pt2"), dtype=dtype, say=quiet)
    assert 0 < manifest["parity"]["scores"]["greatest_difference"] < most
    assert abs(manifest["quality"]["ne_difference_percent"]) < 0.1
    assert manifest["quality"]["rows"] == 600


def test_a_file_that_would_score_otherwise_is_not_written(run, tmp_path, quiet, monkeypatch):
    real = SavedRun.table

    def wrong(self, column):
        yield from (rows + 0.5 for rows in real(self, column))

    monkeypatch.setattr(SavedRun, "table", wrong)
    with pytest.raises(DataError, match="does not score as the model does"):
        export(run, to=str(tmp_path / "m.pt2"), say=quiet)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "onnx"}, "no such format"),
        ({"dtype": "int4"}, "fp32|fp16|int8"),
        ({"proof": "trust"}, "no such proof"),
        ({"device": "tpu"}, "no such device"),
        ({"step": 5}, "no checkpoint of that step"),
    ],
)
def test_what_cannot_be(run, tmp_path, quiet, settings, said):
    with pytest.raises(DataError) as raised:
        export(run, to=str(tmp_path / "m.pt2"), say=quiet, **settings)
    assert said in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_none(tmp_path, quiet):
    with pytest.raises(DataError, match="no run there"):
        export(str(tmp_path), to=str(tmp_path / "m.pt2"), say=quiet)


@pytest.mark.slow
def test_compiled(run, tmp_path, quiet):
    path = str(tmp_path / "m.pt2")
    manifest = export(run, to=path, format="aoti", say=quiet)
    assert manifest["parity"]["scores"]["greatest_difference"] < 1e-5
    with pytest.raises(DataError, match="trust_code=true"):
        open_artefact(path)
    opening = f"open_artefact({path!r}, trust_code=True)"
    text = f"from c2al.serving.artefact import open_artefact; print({opening}.manifest['kind'])"
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=runs.ROOT, check=False)
    assert ended.stdout == "aoti\n", ended.stderr
