"""Real jobs of torchrun, killed at random moments until they were killed often enough; each must end as if undisturbed.

python -m tests.faults.campaign --kills 100 --seed 0 --to build/faults      (what `make faults KILLS=100 SEED=0` runs)

Two ranks. One of them, torchrun or all processes at once get SIGKILL at a random moment of a random part of the run.
torchrun starts ranks anew by itself; this program starts torchrun anew, as a scheduler does. Every kill is a line of
kills.jsonl, so that a campaign that is stopped goes on when it is started again.
"""

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from c2al.data import synthetic
from tests import runs
from tests.faults import summary
from tests.faults.jobs import FAULTY, Job, half_written, living, logs_of
from tests.faults.moments import Moment, Places, draw, kill, kind, wait_for

VARIANTS = (
    *(("parallel=row_wise", "parallel.pipeline=base"), ("parallel=table_wise", "parallel.pipeline=sparse_dist")),
    *(("parallel=column_wise", "parallel.pipeline=base"), ("parallel=auto", "parallel.pipeline=sparse_dist")),
    ("parallel=data_parallel", "parallel.pipeline=base"),
)
OPTIONS = ("method=c2al", *runs.PAIR, "training.average=0.9", "training.steps=48", "training.evaluations=4")
MOST_S = 600.0  # that a job may need to end, or to stand again, on a loaded machine
SPEAKING = ("planning", "step", "checkpoint", "validation", "final evaluation")  # where survivors must name the dead


class Campaign:
    """The jobs of one campaign, and its book."""

    def __init__(self, folder: Path, *, kills: int, seed: int) -> None:
        self.folder, self.kills, self.seed = folder, kills, seed
        self.book = folder / "kills.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = str(folder / "rows")
        if not Path(self.rows).exists():
            synthetic.prepare(to=self.rows, rows=6000)

    def finished(self) -> Iterator[dict[str, Any]]:
        """The jobs that came to their end, with their kills."""
        if self.book.exists():
            yield from (json.loads(line) for line in self.book.read_text().splitlines())

    def run(self) -> list[dict[str, Any]]:
        """Job after job, until there were kills enough; all jobs."""
        jobs = list(self.finished())
        while (left := self.kills - sum(len(job["kills"]) for job in jobs)) > 0:
            number = len(jobs)
            rng = random.Random(f"{self.seed}/{number}")
            variant = VARIANTS[(number + self.seed) % len(VARIANTS)]
            jobs.append(self.job(number, variant, rng, min(left, rng.randint(12, 24))))
            with self.book.open("a") as file:
                file.write(json.dumps(jobs[-1]) + "\n")
        return jobs

    def undisturbed(self, variant: tuple[str, ...]) -> Path:
        """The run without a kill, made once."""
        run = self.folder / "-".join(["whole", *(word.partition("=")[2] for word in variant)])
        if not (run / "report.json").exists():
            with Job(self.rows, run, *OPTIONS, *variant, "overwrite=true") as job:
                assert job.wait(MOST_S) == 0, job.said
        return run

    def job(self, number: int, variant: tuple[str, ...], rng: random.Random, kills: int) -> dict[str, Any]:
        """One job with so many kills, unless it ends before."""
        whole = self.undisturbed(variant)
        killed = Killed(self, number, variant)
        say(f"job {number}: {' '.join(variant)}")
        try:
            for moment in draw(rng, kills):
                if not killed.once(moment):
                    break
            killed.finish(whole)
            result = "same"
        except (AssertionError, TimeoutError) as error:
            result = str(error)[-3000:] or "differs"
        finally:
            killed.end()
        say(f"job {number}: {result}")
        return {"seed": self.seed, "job": number, "variant": list(variant), "result": result, "kills": killed.kills}


class Killed:
    """One run under kills: the job that works on it now, and what was done to it."""

    def __init__(self, campaign: Campaign, number: int, variant: tuple[str, ...]) -> None:
        self.rows, self.run = campaign.rows, campaign.folder / f"job-{number}"
        self.places = Places(campaign.folder / f"places-{number}")
        self.words = (*OPTIONS, *variant)
        self.kills: list[dict[str, Any]] = []
        self.jobs = [self._start("overwrite=true")]

    def _start(self, *own: str) -> Job:
        return Job(
            *(self.rows, self.run, *self.words, *own),
            flags=("--standalone", "--max-restarts=1000"),
            program=FAULTY,
            PACE_S="0.05",
            PLACES=str(self.places.folder),
        )

    def once(self, moment: Moment) -> bool:
        """Kill at that moment and wait until the run is worked on again; False where the job ended before it."""
        job = self.jobs[-1]
        if not wait_for(moment, job, self.places):
            return False
        ranks = job.workers()
        at = {rank: self.places.of(rank) for rank in (0, 1)}
        heard = len(job.lines())
        started = time.monotonic()
        pids = kill(moment.who, job)
        entry = {
            "who": moment.who,
            "wanted": moment.place,
            "place": kind(at[moment.seen_at]),
            "places": list(at.values()),
        }
        entry["gone_s"] = self._until_gone(list(ranks.values()), job.mark)
        self.places.forget()
        if moment.who in ("agent", "node"):
            self.jobs.append(self._start("resume=true"))
        self._until_again(set(ranks.values()) | set(pids))
        said = job.lines()[heard:]
        entry |= {"again_s": round(time.monotonic() - started, 2), "said": said[:1]}
        entry["named"] = bool(said) and all(f"(pid {pid} on" in said[0] or f"pid {pid})" in said[0] for pid in pids)
        self.kills.append(entry)
        say(f"  {len(self.kills):3}  {entry['who']:6} at {' / '.join(at.values())}: {entry['gone_s']} s; {said[:1]}")
        return True

    def _until_gone(self, pids: list[int], mark: str) -> float:
        """Seconds until the last of the processes that were ranks is gone."""
        started = time.monotonic()
        while set(pids) & set(living(mark)):
            if time.monotonic() > started + MOST_S:
                raise TimeoutError(f"ranks live on after {MOST_S} s: {self.jobs[-1].said}")
            time.sleep(0.05)
        return round(time.monotonic() - started, 2)

    def _until_again(self, old: set[int]) -> None:
        started = time.monotonic()
        job = self.jobs[-1]
        while job.agent.poll() is None and len(set(job.workers().values()) - old) < 2:
            if time.monotonic() > started + MOST_S:
                raise TimeoutError(f"not started again after {MOST_S} s: {job.said}")
            time.sleep(0.05)

    def finish(self, whole: Path) -> None:
        """To the end, which must be the undisturbed run's; each survivor must have named the dead."""
        job = self.jobs[-1]
        status, _ = job.ended(MOST_S)
        assert status == 0, job.said
        runs.assert_same_run(whole, self.run)
        assert half_written(self.run) == []
        assert logs_of(self.run) == ["rank_0.log", "rank_1.log"]
        silent = [each for each in self.kills if each["who"].startswith("rank") and each["place"] in SPEAKING]
        assert all(each["named"] for each in silent), f"not named: {[each for each in silent if not each['named']]}"

    def end(self) -> None:
        for job in self.jobs:
            job.end()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=Path("build/faults"))
    parser.add_argument("--record", action="store_true", help="write the summary into benchmarks/results as well")
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no job may outlive the campaign
    jobs = Campaign(words.to.absolute(), kills=words.kills, seed=words.seed).run()
    found = summary.of(jobs)
    summary.show(found)
    if words.record:
        from benchmarks.record import record

        print(record("faults", found))
    return 0 if found["jobs"] == found["same"] else 1


if __name__ == "__main__":
    sys.exit(main())
