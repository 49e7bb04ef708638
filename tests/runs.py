"""Small runs for tests: their config, in this process, in one of their own, or on ranks; and what must be equal."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from c2al.cli import compose

ROOT = Path(__file__).parents[1]
SMALL = (  # 24 steps of 128 rows a rank: two thirds of an epoch of the 4,800 rows that ``tiny_rows`` trains on
    *("training.batch_size=128", "training.window_rows=2048", "training.steps=24", "training.log_every=4"),
    *("training.evaluations=3", "training.validation_steps=2", "training.checkpoint_every=8", "training.snapshots=2"),
    *("training.threads=1", "model.dim=8", "model.interaction.out_features=16", "model.heads.hidden=[8]"),
    *("training.sparse.learning_rate=0.2", "training.dense.learning_rate=0.01", "progress=false"),
)
PAIR = ("cohorts.axis=segment", "cohorts.head=loyal", "cohorts.tail=occasional")
PAIRS_FILE = {  # for a method that looks for one of several
    "divergence": "js",
    "pairs": [
        {"axis": "segment", "head": "loyal", "tail": "occasional", "divergences": {"js": 0.4}},
        {"axis": "device", "head": "tablet", "tail": "phone", "divergences": {"js": 0.1}},
    ],
}
NOTICE = re.compile(  # on a busy machine: ranks that come late, a checkpoint that was not complete at the fault
    r"c2al: (waiting at|rank \d+ of \d+ waits for|resume=true finds no checkpoint in|.* times their CPU time) "
)
CLOCK = ("seconds", "rows_per_s")
PATIENT_S = 1800  # a safety net alone: tests wait for events, which on a busy machine take their time


def overrides(rows: str, run_dir: Path, *own: str) -> list[str]:
    """The command-line words of a small run; ``own`` win."""
    return [f"data.path={rows}", "data.prepare=null", f"run_dir={run_dir}", *SMALL, *own]


def config(rows: str, run_dir: Path, *own: str) -> DictConfig:
    return compose("config", overrides(rows, run_dir, *own))


def trained(rows: str, run_dir: Path, *own: str) -> dict[str, Any]:
    """Train a small run in this process; its report."""
    from c2al.training.train import train

    return train(config(rows, run_dir, *own))


def pair_for(method: str, folder: Path) -> list[str]:
    """The words that give a method its cohorts."""
    if method != "c2al_least":
        return list(PAIR)
    (folder / "pairs.json").write_text(json.dumps(PAIRS_FILE))
    return [f"cohorts.pair={folder}/pairs.json"]


def command(rows: str, run_dir: Path, *own: str) -> list[str]:
    return [sys.executable, "-m", "c2al", "train", *overrides(rows, run_dir, *own)]


def environment(**own: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"} | own


def c2al(*words: str, cwd: Path, timeout_s: float = PATIENT_S) -> subprocess.CompletedProcess[str]:
    """``c2al …`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "c2al", *words],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def on_ranks(
    words: list[str],
    *,
    world_size: int = 2,
    ranks_per_host: int | None = None,
    timeout_s: float = PATIENT_S,
    cwd: Path = ROOT,
) -> list[tuple]:
    """Start ``python words…`` once a rank, as torchrun does; (exit status, stdout, stderr) of each.

    Without torchrun between, each rank's own exit status is seen, and one that fails takes no other with it.
    """
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, *words],
            cwd=cwd,
            env=environment(
                PYTHONFAULTHANDLER="1", **_rank_environment(rank, world_size, ranks_per_host or world_size, port)
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    deadline = time.monotonic() + timeout_s
    try:
        said = [rank.communicate(timeout=max(1.0, deadline - time.monotonic())) for rank in ranks]
    except subprocess.TimeoutExpired:
        for rank in ranks:
            rank.send_signal(signal.SIGABRT)  # Python's faulthandler prints where each thread is
        stuck = [(rank.wait(60), rank.communicate()[1][-4000:]) for rank in ranks]
        raise AssertionError(f"not ended after {timeout_s:.0f} s: {stuck}") from None
    finally:
        for rank in ranks:
            rank.kill()
    return [(rank.returncode, out, _without_notice(text)) for rank, (out, text) in zip(ranks, said, strict=True)]


def _without_notice(text: str) -> str:
    """Without the line of a rank that waits for the others: on a busy machine their start takes long."""
    return "".join(line for line in text.splitlines(keepends=True) if not NOTICE.match(line))


def _rank_environment(rank: int, world_size: int, per_host: int, port: int) -> dict[str, str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank % per_host, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": per_host}
    return {name: str(number) for name, number in {**numbers, "MASTER_PORT": port}.items()} | {
        "MASTER_ADDR": "127.0.0.1"
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """All of ``metrics.jsonl`` but the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]


def report_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def weights_of(run: Path, step: int) -> dict[str, np.ndarray]:
    with np.load(run / "weights" / f"step_{step:08d}.npz") as file:
        return dict(file)


def assert_same_run(one: Path, other: Path) -> None:
    """The same numbers to the bit: metrics along the way, final metrics, every snapshot of the weights."""
    assert metrics_of(one) == metrics_of(other)
    assert report_of(one)["metrics"] == report_of(other)["metrics"]
    snapshots = [sorted(path.name for path in (run / "weights").glob("*.npz")) for run in (one, other)]
    assert snapshots[0] == snapshots[1]
    for name in snapshots[0]:
        with np.load(one / "weights" / name) as a, np.load(other / "weights" / name) as b:
            assert set(a) == set(b)
            assert all(np.array_equal(a[key], b[key]) for key in a), name
