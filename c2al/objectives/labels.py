"""Labels of the heads: the primary ``y``, and ``y·1[row in cohort]`` for each auxiliary one (arXiv 2510.02215).

A positive of the head cohort carries (1, 1, 0), one of the tail cohort (1, 0, 1), any other (1, 0, 0): the auxiliary
labels conflict in part, which is all that "contrastive" means here.

With ``members`` the auxiliary labels are ``1[row in cohort]`` whatever y: heads that predict the cohort, and nothing
of what its rows do. A control: it tells the representation who a row is, without the conflict.
"""

from collections.abc import Sequence

import torch


def head_labels(
    label_B: torch.Tensor, cohort_BA: torch.Tensor, auxiliaries: Sequence[tuple[int, int]], *, members: bool = False
) -> torch.Tensor:
    """``label_BH``. Each auxiliary head is (position of the axis in ``cohort_BA``, cohort id)."""
    of_B = torch.ones_like(label_B) if members else label_B
    return torch.stack([label_B, *(of_B * (cohort_BA[:, axis] == cohort) for axis, cohort in auxiliaries)], dim=1)
