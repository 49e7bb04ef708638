"""What campaigns found, in numbers: for JSON and for the terminal.

python -m tests.faults.summary build/faults/kills.jsonl …      of one campaign or several, into benchmarks/results
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.faults.moments import PLACES, VICTIMS


def of(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    kills = [each for job in jobs for each in job["kills"]]
    return {
        "seeds": sorted({job["seed"] for job in jobs}),
        "load_average": os.getloadavg()[2],
        "jobs": len(jobs),
        "same": sum(job["result"] == "same" for job in jobs),
        "variants": Counter(" ".join(job["variant"]) for job in jobs),
        "failures": [job["result"] for job in jobs if job["result"] != "same"],
        "kills": len(kills),
        "who": {who: sum(each["who"] == who for each in kills) for who in VICTIMS},
        "places": {place: _times(each for each in kills if each["place"] == place) for place in PLACES},
        "all": _times(kills),
        "named": sum(each["named"] for each in kills),
        "ranks": sum(each["who"].startswith("rank") for each in kills),
    }


def _times(kills: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Kills, and seconds until the survivors were gone and until new processes were there."""
    found = list(kills)
    gone, again = ([each[name] for each in found] or [0.0] for name in ("gone_s", "again_s"))
    return {"kills": len(found), "gone_s": [median(gone), max(gone)], "again_s": [median(again), max(again)]}


def show(found: dict[str, Any]) -> None:
    table = Table(box=SIMPLE_HEAD, title=f"{found['kills']} kills in {found['jobs']} jobs")
    for name in ("killed at", "kills", "ranks gone after s", "at most", "started anew after s", "at most"):
        table.add_column(name, justify="left" if name == "killed at" else "right")
    for place, times in [*found["places"].items(), ("all", found["all"])]:
        numbers = [*times["gone_s"], *times["again_s"]]
        table.add_row(place, str(times["kills"]), *(f"{number:.1f}" for number in numbers))
    Console().print(table)
    print(", ".join(f"{who}: {number}" for who, number in found["who"].items()))
    print(f"{found['same']} of {found['jobs']} jobs ended in the undisturbed run's metrics and weights, to the bit")
    for failure in found["failures"]:
        print(f"\n{failure}")


def main(books: list[str]) -> None:
    from benchmarks.record import record

    found = of([json.loads(line) for book in books for line in Path(book).read_text().splitlines()])
    show(found)
    print(record("faults", found))


if __name__ == "__main__":
    main(sys.argv[1:])
