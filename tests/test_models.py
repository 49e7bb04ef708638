"""Every model trains, and as it did: the losses of its first steps are in ``golden/models.json``.

``python -m tests.test_models`` writes that file anew; a change of it is a change of what every user trains.
"""

import json
import tempfile
from pathlib import Path

import pytest

from c2al.data import synthetic
from tests import runs

GOLDEN = Path(__file__).parent / "golden" / "models.json"
TOLERANCE = 1e-3  # relative: other processors add up in another order
CONF = runs.ROOT / "conf" / "model"
MODELS = sorted(path.stem for path in CONF.glob("*.yaml"))
BESIDE = [name for name in MODELS if "fm_attention: false" in (CONF / f"{name}.yaml").read_text()]
SMALL = (
    *("method=c2al", *runs.PAIR, "training.batch_size=256", "training.steps=6", "training.log_every=1"),
    *("training.evaluations=0", "training.snapshots=0", "training.final_splits=[]", "training.threads=1"),
    "progress=false",
)


def losses(rows: str, folder: Path, model: str, *own: str) -> list[list[float]]:
    """Of every head, in every step."""
    from c2al.training.train import train

    train(runs.compose("config", words(rows, folder, model, *own)))
    return logged(folder)


def words(rows: str, folder: Path, model: str, *own: str) -> list[str]:
    return [f"model={model}", f"data.path={rows}", "data.prepare=null", f"run_dir={folder}", *SMALL, *own]


def logged(folder: Path) -> list[list[float]]:
    return [line["losses"] for line in runs.metrics_of(folder) if line["split"] == "train"]


def assert_golden(found: list[list[float]], model: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert model in golden, "a new model: python -m tests.test_models"
    for step, (now, then) in enumerate(zip(found, golden[model], strict=True), start=1):
        assert now == pytest.approx(then, rel=TOLERANCE), f"step {step}"


@pytest.mark.parametrize("model", MODELS)
def test_losses_are_the_golden_ones(model, tiny_rows, tmp_path):
    assert_golden(losses(tiny_rows, tmp_path / "run", model), model)
    assert runs.report_of(tmp_path / "run")["parameters"]["tables"] > 0


@pytest.mark.parametrize("model", BESIDE)
def test_fm_attention_stands_beside(model, tiny_rows, tmp_path):
    """``model.fm_attention=true``: another model from the first step on, that trains."""
    own = ["model.fm_attention=true", "training.steps=2"]
    found, golden = losses(tiny_rows, tmp_path / "run", model, *own), json.loads(GOLDEN.read_text())[model]
    assert len(found) == 2
    assert found[0] != golden[0]


@pytest.mark.parametrize("model", ["deepfm"])
def test_two_ranks_train_the_same(model, tiny_rows, tmp_path):
    """Batch norm over all ranks' rows, first-order weights, padded rows; every batch is all rows there are."""
    alone = losses(tiny_rows, tmp_path / "one", model, "training.batch_size=4800", "training.steps=3")
    own = ["training.batch_size=2400", "training.steps=3", "parallel=row_wise"]
    ended = runs.on_ranks(["-m", "c2al", "train", *words(tiny_rows, tmp_path / "two", model, *own)])
    assert [status for status, _, _ in ended] == [0, 0], ended
    for one, two in zip(alone, logged(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, rel=TOLERANCE)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = f"{folder}/rows"
        synthetic.prepare(to=rows, rows=6000)
        found = {model: losses(rows, Path(folder) / model, model) for model in MODELS}
    found = {model: [[float(f"{loss:.6g}") for loss in step] for step in each] for model, each in found.items()}
    lines = [f'  "{model}": {json.dumps(each)}' for model, each in found.items()]
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
