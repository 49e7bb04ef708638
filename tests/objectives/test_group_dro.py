import math

import pytest
import torch

from c2al.objectives.group_dro import GroupDRO

LOSS_B = torch.tensor([0.2, 0.4, 1.0, 3.0, 9.0])
WEIGHT_B = torch.tensor([1.0, 1.0, 2.0, 1.0, 0.0])  # the last is a filler
COHORT_B = torch.tensor([0, 0, 1, -1, -1])


def made(**options) -> GroupDRO:
    return GroupDRO(cohorts=("a", "b"), num_rows=[50.0, 40.0, 10.0], **options)


def test_one_step_by_hand():
    """L = (0.3, 1, 3), q = exp(η L) normalised; the mean weighted loss becomes Σ q L times the mean weight."""
    module = made(step_size=0.5)
    factor_B = module(LOSS_B, WEIGHT_B, COHORT_B)
    raw = [math.exp(0.5 * loss) for loss in (0.3, 1.0, 3.0)]
    q = [each / sum(raw) for each in raw]
    assert module.q_G.tolist() == pytest.approx(q)
    robust = sum(a * b for a, b in zip(q, (0.3, 1.0, 3.0), strict=True))
    found = (WEIGHT_B * factor_B * LOSS_B).sum() / WEIGHT_B.sum()
    assert found.item() == pytest.approx(robust)


def test_the_worst_cohort_gains_step_by_step():
    module = made(step_size=0.5)
    shares = []
    for _ in range(5):
        module(LOSS_B, WEIGHT_B, COHORT_B)
        shares.append(module.q_G[2].item())
    assert shares == sorted(shares)
    assert module.q_G.sum().item() == pytest.approx(1)


def test_small_cohorts_count_for_more_with_the_adjustment():
    plain, adjusted = made(step_size=0.5), made(step_size=0.5, adjustment=2.0)
    for each in (plain, adjusted):
        each(torch.ones(5), WEIGHT_B, COHORT_B)
    raw = [math.exp(0.5 * (1 + 2 / math.sqrt(n))) for n in (50, 40, 10)]
    assert adjusted.q_G.tolist() == pytest.approx([each / sum(raw) for each in raw])
    assert adjusted.q_G[2] > plain.q_G[2]


def test_a_cohort_that_is_not_in_the_batch_keeps_its_weight_beside_a_loss_of_zero():
    module = made(step_size=0.5)
    module(torch.zeros(2), torch.ones(2), torch.tensor([0, 0]))
    assert module.q_G.tolist() == pytest.approx([1 / 3] * 3)


def test_cohorts_without_training_rows_have_no_weight():
    module = GroupDRO(cohorts=("a", "b"), num_rows=[5.0, 5.0, 0.0])
    assert module.q_G.tolist() == [0.5, 0.5, 0]


def test_q_is_state_and_told():
    module = made()
    module(LOSS_B, WEIGHT_B, COHORT_B)
    assert list(module.state_dict()) == ["q_G"]
    assert torch.equal(module.told()["group_weights"], module.q_G)


@pytest.mark.parametrize("options", [{"step_size": -1.0}, {"adjustment": -1.0}, {"num_rows": [1.0]}])
def test_what_cannot_be(options):
    with pytest.raises(ValueError):
        GroupDRO(**{"cohorts": ("a", "b"), "num_rows": [5.0, 5.0, 0.0], **options})
