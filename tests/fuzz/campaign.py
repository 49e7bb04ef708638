"""Thousands of damaged inputs through every door: each is taken as it is, or refused in one line.

    make fuzz                                   4,000 cases, evenly over the doors
    make fuzz CASES=400 SEED=1
    .venv/bin/python -m tests.fuzz.campaign --doors csv schema --cases 200

Each door's cases run in a process of their own; one that dies goes on after the case that killed it. What was neither
taken nor refused clearly is listed with its kind, and its input is kept below ``build/fuzz``. Exit status 1 if any.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.doors import DOORS, Door, silently

LONGEST_S = 120  # of a case, on a busy machine
KEPT = Path("build/fuzz")


class HangError(BaseException):
    """A case took longer than ``LONGEST_S``."""


@dataclass
class Result:
    """How a door's cases ended: counts by outcome, and each new kind of fault with its first case."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, other: dict[str, Any]) -> None:
        """Take in another process's."""
        self.outcomes.update(other["outcomes"])
        self.faults |= other["faults"]


def run_cases(door: Door, first: int, last: int, *, seed: int, kept: Path, told: Path | None = None) -> Result:
    """Run the cases of one door, in this process; ``told`` is the file that names the case under way."""
    from c2al import cli

    result = Result()
    before = signal.signal(signal.SIGALRM, _hangs)
    try:
        for number in range(first, last):
            if told:
                told.write_text(str(number))
            signal.alarm(LONGEST_S)
            try:
                silently(lambda number=number: door.case(Random(f"{seed}/{number}")))  # type: ignore[misc]
                result.outcomes["taken"] += 1
            except HangError:
                _note(result, door, number, "hangs", "", kept)
            except SystemExit as end:
                result.outcomes[f"exit status {end.code}"] += 1
            except Exception as error:
                refused = cli._at_fault(error)
                if refused is None:
                    _note(result, door, number, _kind(error), str(error), kept)
                elif len(str(refused).splitlines()) > 1:
                    _note(result, door, number, "several lines", str(refused), kept)
                else:
                    result.outcomes["refused"] += 1
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return result


def _hangs(*_: Any) -> None:
    raise HangError


def _kind(error: Exception) -> str:
    """The error's type and the last line of c2al's own that it came through."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/c2al/" in frame.filename]
    where = f"{own[-1].filename.rpartition('/c2al/')[2]}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__} at {where}"


def _note(result: Result, door: Door, number: int, kind: str, text: str, kept: Path) -> None:
    result.outcomes["fault"] += 1
    if kind in result.faults:
        return
    result.faults[kind] = {"case": number, "text": text[:300]}
    for path in door.kept:
        target = kept / f"{number}_{path.name.lstrip('.')}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        elif path.exists():
            shutil.copy(path, target)


def make_seeds(folder: Path) -> dict[str, Path]:
    """A small run, its model file and a small study, which the doors damage."""
    from c2al.data import synthetic
    from c2al.parallel import ranks
    from c2al.serving.export import export
    from tests import runs
    from tests.analysis.conftest import build

    rows = str(folder / "rows")
    synthetic.prepare(to=rows, rows=6000)
    runs.trained(rows, folder / "run", "method=c2al", *runs.PAIR)
    ranks.stop()
    export(str(folder / "run"), to=str(folder / "model.pt2"), say=lambda _: None)
    ranks.stop()
    (folder / "study").mkdir()
    study = build(folder / "study_rows", folder / "study", num_rows=2_000, seeds=(0, 1), arms=("baseline", "c2al"))
    (folder / "study" / "study.json").write_text(json.dumps(study))
    return {"run": folder / "run", "model": folder / "model.pt2", "study": folder / "study"}


def _campaign(doors: list[str], cases: int, seed: int) -> dict[str, Result]:
    """Every door in processes of its own; a process that dies is followed by one that goes on after that case."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="c2al-fuzz-") as name:
        folder = Path(name)
        make_seeds(folder)
        for door in doors:
            found[door], first = Result(), 0
            while first < cases:
                told, out = folder / f"{door}.case", folder / f"{door}.json"
                out.unlink(missing_ok=True)
                told.write_text(str(first))
                words = [str(folder), door, str(first), str(cases), str(seed)]
                ended = subprocess.run([sys.executable, "-m", __spec__.name, "--child", *words], check=False)
                if out.exists():
                    found[door].add(json.loads(out.read_text()))
                    break
                number = int(told.read_text())
                found[door].outcomes["fault"] += 1
                found[door].faults[f"the process died with status {ended.returncode}"] = {"case": number, "text": ""}
                first = number + 1
            print(f"{door}: {dict(found[door].outcomes)}", flush=True)
    return found


def _child(folder: str, door: str, first: str, last: str, seed: str) -> int:
    import logging

    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    place, seeds = Path(folder), {name: Path(folder, name) for name in ("run", "study")}
    seeds["model"] = place / "model.pt2"
    opened = silently_opened(door, place / "doors" / door, seeds)
    told = place / f"{door}.case"
    result = run_cases(opened, int(first), int(last), seed=int(seed), kept=KEPT.resolve() / door, told=told)
    (place / f"{door}.json").write_text(json.dumps({"outcomes": result.outcomes, "faults": result.faults}))
    return 0


def silently_opened(name: str, folder: Path, seeds: dict[str, Path]) -> Door:
    """A door by name, made without what that prints."""
    made: list[Door] = []
    silently(lambda: str(made.append(DOORS[name](folder, seeds))))
    return made[0]


def main() -> int:
    """Run, print, and say by the exit status whether every case was taken or refused."""
    if "--child" in sys.argv:
        return _child(*sys.argv[sys.argv.index("--child") + 1 :])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=4000, help="over all doors")
    parser.add_argument("--doors", nargs="+", default=list(DOORS), choices=list(DOORS))
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    found = _campaign(settings.doors, -(-settings.cases // len(settings.doors)), settings.seed)
    faults = [(door, kind, about) for door, result in found.items() for kind, about in result.faults.items()]
    for door, kind, about in faults:
        print(f"{door} case {about['case']}: {kind}: {about['text']}")
    total = sum(sum(result.outcomes.values()) for result in found.values())
    print(f"{total} cases, {sum(result.outcomes['fault'] for result in found.values())} faults of {len(faults)} kinds")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
