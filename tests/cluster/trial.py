"""One real config, trained on two nodes in the ways that c2al can be started on Slurm, while nodes are taken away."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests import runs
from tests.cluster.slurm import NODES, Slurm
from tests.faults.jobs import step_of

SBATCH = runs.ROOT / "launch/slurm/train.sbatch"
COMPONENTS = runs.ROOT / "launch/components.py"
STEPS = 400
CONFIG = (
    *("data=synthetic", "data.path=rows", "data.prepare.rows=100_000", "model=dhen", "method=c2al", *runs.PAIR),
    *("training.batch_size=128", f"training.steps={STEPS}", "training.log_every=10", "training.evaluations=3"),
    *("training.validation_steps=4", "training.checkpoint_every=50", "training.threads=1", "training.timeout_s=60"),
    *("training.snapshots=2", "data.sparse=[user,item,category,brand,taste,segment]"),
    "run_dir=outputs/${name}",
)
START_S, RUN_S = 900.0, 1800.0  # far more than a quiet machine needs


class Trial:
    """Jobs in one folder of one cluster; ``say`` gets a line for each thing that is done or seen."""

    def __init__(self, slurm: Slurm, folder: Path, say: Callable[[str], None]) -> None:
        self.slurm, self.folder, self.say = slurm, folder, say

    def run(self, name: str) -> Path:
        return self.folder / "outputs" / name

    def torchx(self, name: str, *own: str) -> str:
        """Submit by TorchX's scheduler, with flags of the component of one's ``own``; the job's number."""
        flags = ("-j", "2x1", "--memMB", "3000", "--rdzv_port", str(runs.free_port()), *own)
        words = ("torchx", "run", "-s", "slurm", "-cfg", "partition=debug", f"{COMPONENTS}:train", *flags)
        self.say(f"{' '.join(words)} -- {' '.join(CONFIG[3:5])} … name={name}".replace(f"{runs.ROOT}/", ""))
        told = subprocess.run(
            [*words, "--", *CONFIG, f"name={name}", "progress=false"],
            env=self.slurm.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=START_S,
        )
        found = re.search(r"slurm://\S*?(\d+)\s*$", told.stdout, re.MULTILINE)
        assert found, told.stdout + told.stderr
        self.say(f"job {found[1]}; a job of two nodes is two parts, which Slurm's back-filler starts together")
        return found[1]

    def sbatch(self, name: str, *own: str) -> str:
        """Submit the script; the job's number."""
        shown = " ".join((*CONFIG[3:5], "…", f"name={name}", *own))
        self.say(f"sbatch {SBATCH.relative_to(runs.ROOT)} {shown}")
        words = [*CONFIG, f"name={name}", *own]
        number = self.slurm.submit(SBATCH, words, cwd=self.folder, flags=("--time=20", "--mem=3000"))
        self.say(f"job {number}; it writes c2al-{number}.out")
        return number

    def finish(self, number: str, name: str) -> None:
        """Wait until a job has ended well."""
        state = self.slurm.wait(number, RUN_S)
        assert state == "COMPLETED", f"job {number}: {state}\n{self.said(number)}"
        ne = runs.report_of(self.run(name))["metrics"]["test"]["overall"]["ne"]
        self.say(f"job {number} {state} after {self.slurm.restarts(number)} restarts; NE on test {ne:.5f}")

    def said(self, number: str) -> str:
        """All that a job has printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob(f"*-{number}*.*")))

    def until_step(self, number: str, name: str, step: int) -> int:
        """Wait until a run is that far; how far it is."""
        deadline = time.monotonic() + START_S
        while (at := step_of(self.run(name))) < step or self.slurm.state(number) != "RUNNING":
            assert time.monotonic() < deadline, self.said(number)
            assert self.slurm.state(number) not in ("FAILED", "COMPLETED", "CANCELLED"), self.said(number)
            time.sleep(0.02)
        self.say(f"run {name} is at step {at} of {STEPS}")
        return at

    def preempt(self, number: str) -> None:
        """Have Slurm take the nodes away for a job of a partition that goes first."""
        before = self.slurm.restarts(number)
        words = ("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--output=urgent.out", "--wrap=sleep 1")
        urgent = self.slurm.ask(*words, cwd=self.folder)
        self.say(f"sbatch --partition=urgent: job {urgent} goes before job {number}, which Slurm sends SIGUSR1")
        state = self.slurm.wait(urgent, START_S)
        assert state == "COMPLETED", f"job {urgent}: {state}"
        self.say(f"job {urgent} had the nodes")
        self._restarted(number, before)
        line = next(line for line in self.said(number).splitlines() if "stopped by SIGUSR1 after step" in line)
        self.say(f"the job's output says: {line.partition(': ')[2]}")

    def lose(self, number: str, node: str, *, told: bool) -> None:
        """Kill a node. Slurm finds out, or is ``told`` as by a cluster's monitoring; then the node comes back."""
        before = self.slurm.restarts(number)
        count = self.slurm.kill_node(node)
        self.say(f"node {node} is dead: SIGKILL to its slurmd and all that ran there, {count} processes")
        if told:
            self.slurm.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")
            self.say(f"scontrol update NodeName={node} State=DOWN")
        else:
            self.slurm.until(lambda: "down" in self.slurm.node_states()[node], f"{node} is down", 120)
            self.say("Slurm has found out")
        self.slurm.bring_back(node)
        self.say(f"slurmd -N {node}: the node is back")
        self._restarted(number, before)

    def _restarted(self, number: str, before: int) -> None:
        self.slurm.until(lambda: self.slurm.restarts(number) > before, f"job {number} is requeued", 120)
        self.say(f"job {number} is back in the queue")
        self.slurm.until(lambda: self.slurm.state(number) == "RUNNING", f"job {number} runs again", 120)
        self.say(f"job {number} runs again, start {self.slurm.restarts(number) + 1}")

    def same(self, one: str, other: str) -> None:
        """Whether two runs are the same to the bit: the metrics along the way, the final ones, the weights."""
        runs.assert_same_run(self.run(one), self.run(other))
        self.say(f"runs {one} and {other} are the same to the bit: metrics, final metrics, weights")

    def refused(self) -> None:
        """A job that fails by its input is not started again."""
        number = self.sbatch("refused", "training.batch_size=-1")
        state = self.slurm.wait(number, START_S)
        assert (state, self.slurm.restarts(number)) == ("FAILED", 0), self.said(number)
        line = next(line for line in self.said(number).splitlines() if "c2al: " in line)
        self.say(f"job {number} {state}, not started again: {line.partition(': ')[2]}")


def short(trial: Trial) -> None:
    """Both ways once; the second is pre-empted, then loses a node."""
    whole = trial.torchx("torchx")
    trial.finish(whole, "torchx")
    number = trial.sbatch("sbatch")
    trial.until_step(number, "sbatch", 50)
    trial.preempt(number)
    trial.until_step(number, "sbatch", 120)
    trial.lose(number, NODES[1], told=True)
    trial.finish(number, "sbatch")
    trial.same("torchx", "sbatch")
