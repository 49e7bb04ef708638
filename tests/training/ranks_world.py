"""Started once a rank by ``test_train_on_ranks.py``: several runs in one process group.

``python -m tests.training.ranks_world ROWS BAD_ROWS OUT``
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from c2al.model import Objective
from c2al.parallel import ranks as process_group
from c2al.schema import DataError
from c2al.training import train as program
from c2al.training.checkpoint import Checkpoints
from c2al.training.checkpoint_store import Store
from tests import runs

OPTIONS = ("method=c2al", *runs.PAIR, "training.batch_size=64", "training.average=0.9", "training.log_every=3")


class KilledError(Exception):
    """Stands for a kill in the middle of a run."""


def cut_off(rows: str, folder: Path, step: int) -> None:
    between_steps = program.Training._between_steps

    def stop(self: program.Training) -> None:
        between_steps(self)
        if self.progress.step == step:
            raise KilledError

    program.Training._between_steps = stop
    try:
        runs.trained(rows, folder, *OPTIONS)
    except KilledError:
        pass
    finally:
        program.Training._between_steps = between_steps


def broken_on_rank_one(rows: str, folder: Path, rank: int) -> list[str]:
    """The auxiliary head's loss is NaN in the sixth step, on rank 1 alone."""
    forward, calls = Objective.forward, []

    def broken(self, logits_BH, *rest):
        if self.training:
            calls.append(1)
            if rank == 1 and len(calls) == 6:
                logits_BH = logits_BH * torch.tensor([1.0, 1.0, float("nan")])
        return forward(self, logits_BH, *rest)

    Objective.forward = broken
    try:
        return said(lambda: runs.trained(rows, folder, *OPTIONS))
    finally:
        Objective.forward = forward


def with_others_ahead(rows: str, folder: Path, rank: int) -> list[str]:
    """What lies where a checkpoint is written when rank 0 comes to make room there, later than rank 1 writes."""
    begin, write, found = Store.begin, Checkpoints._write, []
    ahead = folder.with_suffix(".ahead")

    def late(self: Store, step: int) -> None:
        while not ahead.exists():
            time.sleep(0.05)
        time.sleep(0.5)
        found.append(Path(self.where_written(step)).exists())
        begin(self, step)

    def written(self: Checkpoints, *words: Any) -> None:
        if rank == 1:
            ahead.touch()
        write(self, *words)

    Store.begin, Checkpoints._write = late, written
    try:
        return [*said(lambda: runs.trained(rows, folder, *OPTIONS)), *map(str, found)]
    finally:
        Store.begin, Checkpoints._write = begin, write


def said(run) -> list[str]:
    try:
        run()
    except DataError as error:
        return [str(error), str(error.agreed)]
    return ["nothing", ""]


def main(rows: str, bad_rows: str, out: str) -> None:
    ranks = process_group.start(timeout_s=900, threads=1)
    leave = process_group.stop
    process_group.start, process_group.stop = lambda **_: ranks, lambda: None  # one group for all that follows
    folder = Path(out)
    runs.trained(rows, folder / "whole", *OPTIONS)
    cut_off(rows, folder / "cut", 13)
    runs.trained(rows, folder / "cut", *OPTIONS, "resume=true")
    runs.trained(rows, folder / "piped", *OPTIONS, "parallel.pipeline=sparse_dist")
    for sharding in ("row_wise", "column_wise"):
        runs.trained(rows, folder / sharding, *OPTIONS, f"parallel={sharding}")
    found = {
        "non_finite": broken_on_rank_one(rows, folder / "broken", ranks.rank),
        "ahead": with_others_ahead(rows, folder / "late", ranks.rank),
        "bad_row": said(lambda: runs.trained(bad_rows, folder / "bad", *OPTIONS)),
        "no_rows": said(lambda: runs.trained(rows if ranks.rank else f"{rows}_none", folder / "none", *OPTIONS)),
    }
    (folder / f"rank_{ranks.rank}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
