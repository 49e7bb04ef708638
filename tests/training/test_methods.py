"""Every method trains: a short run of each, its losses those that are committed.

After a change that is meant to move them: ``python -m tests.training.test_methods`` writes them anew.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

from tests import runs

pytestmark = pytest.mark.slow
GOLDEN = Path(__file__).parents[1] / "golden" / "methods.json"
METHODS = sorted(path.stem for path in (runs.ROOT / "conf" / "method").glob("*.yaml"))
SEVERAL = "cohorts.pairs=[{axis: segment, head: loyal, tail: occasional}, {axis: device, cohorts: all}]"
SHORT = ("training.steps=6", "training.log_every=2", "training.evaluations=0", "training.final_splits=[]")


def variants() -> dict[str, list[str]]:
    """What to train, by name: each method, and C2AL with heads of two axes."""
    return {**{method: [f"method={method}"] for method in METHODS}, "several": ["method=c2al", SEVERAL]}


def short_run(rows: str, folder: Path, name: str) -> list[dict]:
    """The lines that a short run logs of training."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*variants()[name], *runs.pair_for(name, folder)]
    runs.trained(rows, folder / "run", *words, *SHORT, "training.snapshots=0")
    return [line for line in runs.metrics_of(folder / "run") if line["split"] == "train"]


@pytest.mark.parametrize("name", variants())
def test_losses_are_the_committed_ones(name, tiny_rows, tmp_path):
    lines = short_run(tiny_rows, tmp_path, name)
    expected = json.loads(GOLDEN.read_text())[name]
    assert [line["step"] for line in lines] == [2, 4, 6]
    for line, losses in zip(lines, expected, strict=True):
        assert line["losses"] == pytest.approx(losses, rel=2e-3), "torch of another version or CPU may round otherwise"
    assert lines[-1]["losses"][0] < lines[0]["losses"][0]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("c2al", set()),
        ("pcgrad", {"weights", "cosines"}),
        ("uncertainty", {"weights"}),
        ("c2al_scheduled", {"weights"}),
        ("group_dro", {"group_weights"}),
    ],
)
def test_what_a_method_makes_is_in_the_log(name, keys, tiny_rows, tmp_path):
    line = short_run(tiny_rows, tmp_path, name)[-1]
    assert {"weights", "cosines", "group_weights"} & set(line) == keys
    lengths = {"weights": 3, "cosines": 3, "group_weights": 6}
    assert all(len(line[key]) == lengths[key] for key in keys)


@pytest.mark.parametrize("name", ["pcgrad", "group_dro", "uncertainty"])
def test_a_resumed_run_goes_on_as_if_nothing_had_happened(name, tiny_rows, tmp_path):
    """The objective's state is in the checkpoint; random orders follow from the step."""
    words = [*variants()[name], *runs.PAIR, "training.snapshots=0", "training.log_every=2", "training.evaluations=0"]
    whole = [*words, "training.decay=constant", "training.warmup=0", "training.checkpoint_every=4"]
    runs.trained(tiny_rows, tmp_path / "whole", *whole, "training.steps=8")
    runs.trained(tiny_rows, tmp_path / "parts", *whole, "training.steps=4")
    (tmp_path / "parts" / "report.json").unlink()
    runs.trained(tiny_rows, tmp_path / "parts", *whole, "training.steps=8", "resume=true")
    lines = [[line for line in runs.metrics_of(tmp_path / part)] for part in ("whole", "parts")]
    for each in lines:
        for line in each:
            line.pop("num_steps", None)
    assert lines[0] == lines[1]


def test_bf16_keeps_the_gramian_in_float32(tiny_rows, tmp_path):
    runs.trained(tiny_rows, tmp_path / "run", "method=cagrad", *runs.PAIR, *SHORT, "training.precision=bf16")
    exact = json.loads(GOLDEN.read_text())["cagrad"][-1]
    assert runs.metrics_of(tmp_path / "run")[-1]["losses"] == pytest.approx(exact, rel=0.05)


def write_golden() -> None:
    """All short runs, and their losses into the committed file."""
    from c2al.data import synthetic

    with tempfile.TemporaryDirectory() as folder:
        synthetic.prepare(to=f"{folder}/synthetic", rows=6000)
        found = {}
        for name in variants():
            lines = short_run(f"{folder}/synthetic", Path(folder, name), name)
            found[name] = [[float(f"{loss:.6g}") for loss in line["losses"]] for line in lines]
            print(name, found[name][-1], file=sys.stderr)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(losses)}" for name, losses in found.items())
    GOLDEN.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    write_golden()
