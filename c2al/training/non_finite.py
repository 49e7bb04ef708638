"""A step whose gradient is not finite: its batches are kept, and every rank ends with the same line."""

import math
from pathlib import Path
from typing import NoReturn

import torch

from c2al.model import Objective
from c2al.parallel import ranks as process_group
from c2al.parallel.optimizers import NonFiniteError
from c2al.schema import DataError
from c2al.training.loop import Fed


def refuse(
    error: NonFiniteError, step: int, fed: Fed | None, objective: Objective, *, folder: Path, rank: int
) -> NoReturn:
    """Save this rank's batch as ``non_finite_step_<n>_rank_<n>.pt`` and raise what was seen.

    Collective: gradients are summed over ranks, so that every rank comes here in the same step. The DataError names the
    heads whose loss is not finite and the file of the first rank that has one.
    """
    losses_H = objective.last_losses_H
    path = folder / f"non_finite_step_{step}_rank_{rank}.pt"
    torch.save({"step": step, "batch": fed and fed.of_step(step), "losses_H": losses_H}, path)
    bad = [head for head, loss in enumerate(losses_H.tolist()) if not math.isfinite(loss)]
    every = process_group.gather((bad, str(path)))
    heads, file = next((place for place in every if place[0]), every[0])
    what = f"loss of head {', '.join(map(str, heads))}" if heads else "gradient"
    found = DataError(
        f"step {step}: the {what} is not finite ({error})",
        file=file,
        value=losses_H.tolist(),
        remedy="look at the saved batch; lower training.dense.learning_rate or training.max_grad_norm; "
        "resume=true goes on from the last checkpoint",
    )
    process_group.agree(found)
    raise found
