import pytest
import torch

from c2al.objectives.scheduled import SCHEDULES, Scheduled


def weights(schedule: str, step: int, share: float = 0.2) -> list[float]:
    objective = Scheduled(weights=[1.0, 0.2, 0.4], schedule=schedule, share=share)
    objective.at(step, 10)
    return objective(torch.ones(3)).tolist()


def test_cosine_goes_from_lambda_to_zero():
    assert weights("cosine", 0) == pytest.approx([1.0, 0.2, 0.4])
    assert weights("cosine", 5) == pytest.approx([1.0, 0.1, 0.2])
    assert weights("cosine", 10) == pytest.approx([1.0, 0.0, 0.0], abs=1e-7)


def test_warmup_is_linear_and_then_lambda():
    assert [weights("warmup", step)[1] for step in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.2])


def test_constant_is_lambda():
    assert weights("constant", 7) == pytest.approx([1.0, 0.2, 0.4])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_primary_head_is_left_alone(schedule):
    assert all(weights(schedule, step)[0] == 1 for step in range(11))


def test_what_cannot_be():
    with pytest.raises(ValueError, match="no such schedule"):
        Scheduled(schedule="linear")
    with pytest.raises(ValueError, match="share"):
        Scheduled(share=0.0)
