"""A run that is slow because its threads do not get the cores is told so, once, with what to do."""

import time
from collections.abc import Callable

STEPS = 20  # watched together, and for as long as
SECONDS = 10.0
ALONE, WITH_OTHERS = 2.0, 4.0  # times its CPU time that a step may take; ranks wait for each other as well
FREE_CORES = "leave the cores to this run: stop what else runs there, or raise the quota"


class BusyCores:
    """Compares the wall time of steps with the CPU time of this process.

    Args:
        threads: of this rank.
        world_size: number of ranks.
        say: takes the line, once.
    """

    def __init__(self, threads: int, world_size: int, say: Callable[[str], None]) -> None:
        self._threads, self._say = threads, say
        self._most = ALONE if world_size == 1 else WITH_OTHERS
        self._steps, self._wall_s, self._cpu_s = 0, 0.0, 0.0
        self._said = False
        self._started = (0.0, 0.0)

    def begin_step(self) -> None:
        """Start the clocks."""
        self._started = time.perf_counter(), time.process_time()

    def end_step(self) -> float:
        """Stop them; the wall time of the step in seconds."""
        wall_s = time.perf_counter() - self._started[0]
        self.count(wall_s, time.process_time() - self._started[1])
        return wall_s

    def count(self, wall_s: float, cpu_s: float) -> None:
        """Add one step."""
        self._steps, self._wall_s, self._cpu_s = self._steps + 1, self._wall_s + wall_s, self._cpu_s + cpu_s
        if self._steps < STEPS or self._wall_s < SECONDS or self._said:
            return
        times = self._wall_s / max(self._cpu_s, 1e-9)
        if times > self._most:
            self._said = True
            self._say(self._line(times))
        self._steps, self._wall_s, self._cpu_s = 0, 0.0, 0.0

    def _line(self, times: float) -> str:
        remedy = f"set training.threads=1, or {FREE_CORES}" if self._threads > 1 else FREE_CORES
        return (
            f"steps take {times:.1f} times their CPU time on {self._threads} thread{'s' * (self._threads != 1)}: other "
            f"programs hold the cores, a quota is used up, or rows are read slowly. Remedy: {remedy}"
        )
