"""Started once a rank by ``test_resume_on_ranks.py``: a run that notes the rows of each step, and may be killed.

``python -m tests.training.legs_world NOTES STEP key=value …``: SIGKILL to itself after that step, if it comes to it.
"""

import json
import os
import signal
import sys
from pathlib import Path

from c2al.cli import compose
from c2al.training import train as program


def main(notes: str, last: str, *words: str) -> None:
    between_steps = program.Training._between_steps

    def noted(self: program.Training) -> None:
        step, ranks = self.progress.step, self.ranks
        rows = self.loop.fed.of_step(step).row_B.tolist()
        rate = self.optimizers.learning_rates[0]
        with Path(notes, f"{ranks.world_size}_{ranks.rank}.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "rows": [row for row in rows if row >= 0], "rate": rate}) + "\n")
        between_steps(self)
        if str(step) == last:
            self.checkpoints.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    program.Training._between_steps = noted
    program.train(compose("config", list(words)))


if __name__ == "__main__":
    main(*sys.argv[1:])
