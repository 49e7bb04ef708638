"""Steps that get no core are told of once, and busy ones not."""

from c2al.training.busy import SECONDS, STEPS, BusyCores


def said_of(wall_s: float, cpu_s: float, *, threads: int = 2, world_size: int = 1, steps: int = 4 * STEPS) -> list[str]:
    said: list[str] = []
    busy = BusyCores(threads, world_size, said.append)
    for _ in range(steps):
        busy.count(wall_s, cpu_s)
    return said


def test_steps_that_wait_for_a_core_are_told_of_once():
    (line,) = said_of(1.0, 0.25)
    assert line.startswith("steps take 4.0 times their CPU time on 2 threads: other programs hold the cores")
    assert "Remedy: set training.threads=1" in line
    (line,) = said_of(1.0, 0.25, threads=1)
    assert "threads=1" not in line, "that is what it has"
    assert "stop what else runs there" in line


def test_steps_that_compute_are_not():
    assert said_of(1.0, 1.9) == []
    assert said_of(1.0, 0.6) == [], "a part of the time may go to reading"
    assert said_of(1.0, 0.3, world_size=2) == [], "ranks wait for each other"
    assert len(said_of(1.0, 0.2, world_size=2)) == 1


def test_a_short_run_is_not():
    assert said_of(10.0, 0.1, steps=STEPS - 1) == []
    assert said_of(SECONDS / STEPS / 2, 0.0, steps=STEPS) == []


def test_the_clocks():
    busy = BusyCores(1, 1, print)
    busy.begin_step()
    assert busy.end_step() > 0
