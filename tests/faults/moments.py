"""When a campaign kills whom: drawn at random, waited for, and what was seen at that moment."""

import contextlib
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.jobs import Job

PLACES = {  # weight of each: half of a job's life is imports, and they are the least interesting
    **{"imports": 12, "meeting": 8, "start-up": 4, "planning": 12, "step": 30},
    **{"checkpoint": 16, "validation": 10, "final evaluation": 8, "report": 4},
}
LAST = ("final evaluation", "report")
VICTIMS = {"rank 0": 35, "rank 1": 45, "agent": 10, "node": 10}


@dataclass(frozen=True)
class Moment:
    """Kill ``who`` so long after rank ``seen_at`` has come to ``place``; among steps, so many steps further."""

    who: str
    place: str
    seen_at: int
    more_steps: int
    later_s: float

    @staticmethod
    def draw(rng: random.Random) -> "Moment":
        who = rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        place = rng.choices(list(PLACES), list(PLACES.values()))[0]
        later_s = rng.uniform(0, 4.0 if place == "imports" else 0.08)
        return Moment(who, place, rng.randrange(2), rng.randint(0, 4), later_s)


def draw(rng: random.Random, number: int) -> list[Moment]:
    """So many moments of one job; those of its last parts last, as it comes to no others after them."""
    return sorted((Moment.draw(rng) for _ in range(number)), key=lambda each: each.place in LAST)


class Places:
    """Where each rank says that it is; what the dead have said is forgotten."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def forget(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def of(self, rank: int) -> str:
        """``""`` where it has said nothing yet."""
        with contextlib.suppress(OSError):
            return (self.folder / f"rank_{rank}").read_text().partition(" ")[2]
        return ""


def kind(place: str) -> str:
    """``the checkpoint of step 8`` -> ``checkpoint``."""
    if place.startswith("step "):
        return "step"
    return next((name for name in PLACES if place.startswith((name, f"the {name}"))), "imports")


def wait_for(moment: Moment, job: Job, places: Places) -> bool:
    """Until the moment is there, or can come no more; False where the job ends before."""
    first = None
    while job.agent.poll() is None:
        place = places.of(moment.seen_at)
        there = kind(place)
        step = int(place.removeprefix("step ")) if there == "step" else None
        first = step if first is None else first
        if there == moment.place and (step is None or first is None or step >= first + moment.more_steps):
            break
        if there in LAST and moment.place not in LAST:
            break
        time.sleep(0.004)
    time.sleep(moment.later_s)
    return job.agent.poll() is None and bool(job.workers())


def kill(who: str, job: Job) -> list[int]:
    """SIGKILL to one rank, to torchrun, or to all at once; the pids."""
    if who == "node":
        pids = job.processes()
    elif who == "agent":
        pids = [job.agent.pid]
    else:
        pids = [pid for rank, pid in job.workers().items() if rank == int(who.split()[1])]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    return pids
