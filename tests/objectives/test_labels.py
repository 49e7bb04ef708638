import torch

from c2al.objectives.labels import head_labels

LABEL_B = torch.tensor([1.0, 0, 1, 1, 0])
COHORT_BA = torch.tensor([[0, 2], [0, 1], [3, 2], [-1, 0], [3, -1]])


def test_positives_conflict_in_part():
    """(1, 1, 0) in the head cohort, (1, 0, 1) in the tail, (1, 0, 0) elsewhere, zeros for negatives anywhere."""
    label_BH = head_labels(LABEL_B, COHORT_BA, [(0, 0), (0, 3)])
    assert label_BH.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert label_BH.dtype == torch.float32


def test_heads_may_come_from_several_axes_and_overlap():
    label_BH = head_labels(LABEL_B, COHORT_BA, [(0, 3), (1, 2), (1, 0)])
    assert label_BH.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]


def test_no_auxiliary_heads_is_the_baseline():
    assert torch.equal(head_labels(LABEL_B, COHORT_BA, []), LABEL_B[:, None])
