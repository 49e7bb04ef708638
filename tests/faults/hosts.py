"""Two-node training on one machine: a cable that is cut, a host that dies, and each time it goes on (`make hosts`).

python -m tests.faults.hosts [key=value …]      overrides of the config, such as training.steps=200

The hosts are network namespaces, with processes and a name of their own. Needs root, Linux and iproute2.
"""

import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests import runs
from tests.faults.jobs import FAULTY, LEFT_S, Job, step_of
from tests.faults.netns import Hosts, missing

FOLDER = Path("build/hosts")
CONFIG = (
    *("data=synthetic", "model=dhen", "method=c2al", *runs.PAIR, "data.prepare.rows=60000"),
    *("training.steps=100", "training.batch_size=256", "training.checkpoint_every=20", "training.log_every=1"),
    *("training.timeout_s=10", "training.threads=1", "progress=false"),
)
START_S = 900.0  # for two hosts to come to a step, on a loaded machine


class Pair:
    """``torchrun … -m c2al train`` on both hosts, into one run folder, as often as it takes."""

    def __init__(self, hosts: Hosts, rows: str, run: Path, *words: str, timeout_s: int, tiny: bool = False) -> None:
        self.hosts, self.rows, self.run, self.tiny = hosts, rows, run, tiny
        self.words, self.timeout_s = (*words, f"training.timeout_s={timeout_s}"), timeout_s
        self.jobs: list[Job] = []

    def start(self, *own: str, pace_s: float = 0.0, max_restarts: int = 0) -> None:
        self.jobs = [self.start_on(host, *own, pace_s=pace_s, max_restarts=max_restarts) for host in (0, 1)]

    def start_on(self, host: int, *own: str, pace_s: float = 0.0, max_restarts: int = 0) -> Job:
        return Job(
            *(self.rows, self.run, *self.words, *own),
            nproc=1,
            flags=self.hosts.flags(host, self.run.name, max_restarts=max_restarts),
            prefix=self.hosts.prefix(host),
            program=FAULTY,
            tiny=self.tiny,
            PACE_S=str(pace_s),
            **self.hosts.environment(host),
        )

    def until_step(self, step: int) -> int:
        self.jobs[0].until(lambda: step_of(self.run) >= step, START_S)
        return step_of(self.run)

    def finish(self) -> None:
        assert [job.wait(START_S) for job in self.jobs] == [0, 0], self.said()

    def cut_cable(self) -> tuple[list[str], float]:
        """What the hosts say, one after the other, and the seconds until the last process of both has ended."""
        self.hosts.cut()
        cut = time.monotonic()
        try:
            for job in self.jobs:
                job.ended(cut + self.timeout_s + LEFT_S - time.monotonic())
            return [line for job in self.jobs for line in job.lines()[:1]], time.monotonic() - cut
        finally:
            self.hosts.mend()

    def kill_host(self, host: int) -> tuple[list[str], float]:
        """What the other host says, and the seconds until its last process has ended."""
        self.jobs[host].end()
        _, seconds = self.jobs[1 - host].ended(self.timeout_s + LEFT_S)
        return self.jobs[1 - host].lines()[:1], seconds

    def said(self) -> str:
        return "\n".join(job.said for job in self.jobs)

    def end(self) -> None:
        for job in self.jobs:
            job.end()


def two_faults(pair: Pair, first: int, second: int, tell: Callable[[str], None]) -> list[list[str]]:
    """One run through both faults, at these steps, to its end; the lines that were read at each."""
    heard = []
    try:
        for step, fault, what in (
            (first, pair.cut_cable, "the cable between the hosts is cut"),
            (second, lambda: pair.kill_host(1), "host-1 dies, with all of its processes"),
        ):
            pair.start(*(["resume=true"] if heard else []), pace_s=0.1)
            tell(f"at step {pair.until_step(step)}: {what}")
            lines, seconds = fault()
            tell(f"all had ended {seconds:.1f} s later (time-out: {pair.timeout_s} s). What a user reads first:")
            for line in lines:
                tell(f"    {line}")
            heard.append(lines)
            tell("the same commands again, with resume=true")
        pair.start("resume=true")
        pair.finish()
    finally:
        pair.end()
    return heard


def main() -> int:
    if why := missing():
        print(f"make hosts: {why}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the hosts go, as they do on Ctrl-C
    shutil.rmtree(FOLDER, ignore_errors=True)
    folder = FOLDER.absolute()
    rows, words = str(folder / "rows"), (*CONFIG, *sys.argv[1:])
    with Hosts() as hosts:
        tell(f"two hosts on this machine: host-0 ({hosts.addresses[0]}) and host-1 ({hosts.addresses[1]})")
        tell("on each of them, with is_host=0 and its own address on host-1:")
        tell(f"    torchrun {' '.join(hosts.flags(0, 'job'))} --nproc-per-node=1 -m c2al train {' '.join(words)}")
        whole = Pair(hosts, rows, folder / "undisturbed", *words, timeout_s=10)
        try:
            whole.start()
            whole.finish()
        finally:
            whole.end()
        tell(f"an undisturbed run: {step_of(whole.run)} steps, test NE {_ne(whole.run):.5f}")
        pair = Pair(hosts, rows, folder / "disturbed", *words, timeout_s=10)
        two_faults(pair, 30, 60, tell)
        tell(f"the run came to its end: {step_of(pair.run)} steps, test NE {_ne(pair.run):.5f}")
    runs.assert_same_run(whole.run, pair.run)
    tell("metrics along the way, final metrics and weights are the undisturbed run's, to the bit")
    tell(f"the hosts are gone; both runs are in {FOLDER}")
    return 0


def _ne(run: Path) -> float:
    return runs.report_of(run)["metrics"]["test"]["overall"]["ne"]


def tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
