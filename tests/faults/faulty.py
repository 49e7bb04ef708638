"""``python -m tests.faults.faulty train …``: c2al with a fault that no signal can make, named in the environment.

``FAULT``, JSON: ``{"where": "planning" | "reading" | "loss" | "memory", "rank": 1, "step": 6}`` raises there on one
rank, or takes its memory away.
``PACE_S``: each step takes so much longer. ``PLACES``: a folder in which each rank writes where it stands.
"""

import json
import mmap
import os
import re
import resource
import time
from pathlib import Path
from typing import Any

from c2al import cli
from c2al.parallel.signals import stop_signal

RANK = int(os.environ.get("RANK", 0))
WORDS = "raised on purpose"


def show_places(folder: Path) -> None:
    """``rank_N``: pid and place, at every change."""
    from c2al.parallel import ranks
    from c2al.parallel.ranks import Place
    from c2al.training.run_folder import RunFolder

    start, write_report = ranks.start, RunFolder.write_report

    def meeting(**options: Any) -> ranks.Ranks:
        tell(folder, "meeting")
        return start(**options)

    def report(self: RunFolder, *words: Any) -> None:
        tell(folder, "the report")
        write_report(self, *words)

    def set_and_tell(self: Place, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        tell(folder, str(value))

    ranks.start, RunFolder.write_report = meeting, report  # type: ignore[method-assign]
    Place.__setattr__ = set_and_tell  # type: ignore[method-assign]


def tell(folder: Path, place: str) -> None:
    partial = folder / f"rank_{RANK}.{os.getpid()}"
    partial.write_text(f"{os.getpid()} {place}")
    partial.rename(folder / f"rank_{RANK}")


def slow_down(pace_s: float) -> None:
    from c2al.training.train import Training

    between_steps = Training._between_steps

    def slowly(self: Training) -> None:
        time.sleep(pace_s)
        between_steps(self)

    Training._between_steps = slowly  # type: ignore[method-assign]


def break_at(where: str, rank: int, step: int = 6) -> None:
    if rank != RANK:
        return
    if where == "planning":
        from c2al.training import build

        build.place = _raising(build.place, after=1)
    elif where == "loss":
        from c2al.model import Objective

        Objective.forward = _raising(Objective.forward, after=step)  # type: ignore[method-assign]
    elif where == "memory":
        from c2al.model import Objective

        Objective.forward = _starved(Objective.forward, after=step)  # type: ignore[method-assign]
    elif where == "reading":
        from pyarrow.parquet import ParquetFile

        error = OSError(5, f"Input/output error, {WORDS}")
        ParquetFile.read_row_group = _raising(ParquetFile.read_row_group, after=1, error=error)


def _raising(function: Any, *, after: int, error: Exception | None = None) -> Any:
    calls = []

    def broken(*words: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) >= after:
            raise error or ValueError(WORDS)
        return function(*words, **options)

    return broken


def _starved(function: Any, *, after: int) -> Any:
    """From a call on the address space is full, and each call needs 64 MiB more."""
    calls: list[int] = []
    kept: list[Any] = []

    def starved(*words: Any, **options: Any) -> Any:
        import torch

        calls.append(1)
        if len(calls) == after:
            fill_address_space(kept)
        if len(calls) >= after:
            kept.append(torch.empty(2**26, dtype=torch.uint8))
        return function(*words, **options)

    return starved


def fill_address_space(kept: list[Any]) -> None:
    """No thread can be started and no tensor allocated any more."""
    held = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (held, held))
    for size in (2**24, 2**20, 2**16):
        try:
            while True:
                kept.append(mmap.mmap(-1, size))
        except OSError:
            continue


def main() -> None:
    stop_signal.listen()  # as cli.main does, before the imports below take their seconds
    if folder := os.environ.get("PLACES"):
        tell(Path(folder), "imports")
        show_places(Path(folder))
    if pace_s := float(os.environ.get("PACE_S", 0)):
        slow_down(pace_s)
    if fault := os.environ.get("FAULT"):
        break_at(**json.loads(fault))
    cli.main()


if __name__ == "__main__":
    main()
