"""All ranks learn the same at the same beat, one beat after it was sent."""

import json

import pytest

from c2al.parallel import ranks as process_group
from c2al.parallel.pulse import Pulse
from tests import runs


def test_a_rank_alone_answers_at_once():
    ranks = process_group.start(threads=1)
    try:
        pulse = Pulse(ranks)
        assert pulse.beat(True, False) == (True, False)
        assert pulse.beat(False, False) == (False, False)
        assert pulse.rest() == ()
    finally:
        process_group.stop()


def three_ranks(out: str) -> None:
    """What the processes below run."""
    ranks = process_group.start(timeout_s=900, threads=1)
    pulse = Pulse(ranks)
    heard = [pulse.beat(ranks.rank == 1 and step == 2, step == ranks.rank + 3) for step in range(7)]
    heard.append(pulse.rest())
    process_group.stop()
    with open(f"{out}/{ranks.rank}.json", "w") as file:
        json.dump(heard, file)


@pytest.mark.slow
def test_ranks_hear_what_any_of_them_said_a_beat_before(tmp_path):
    program = f"from tests.parallel.test_pulse import three_ranks; three_ranks({str(tmp_path)!r})"
    ended = runs.on_ranks(["-c", program], world_size=3)
    assert [status for status, _, _ in ended] == [0, 0, 0], ended
    heard = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    assert heard[0] == heard[1] == heard[2]
    assert [first for first, _ in heard[0]] == [False] * 3 + [True] + [False] * 4
    assert [second for _, second in heard[0]] == [False] * 4 + [True] * 3 + [False]
