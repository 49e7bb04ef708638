"""What all objectives and heads must satisfy: found by scanning, so that a new one is tested unasked."""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from tests.contracts import DIM, NUM_TOKENS, built, classes_in, required

WEIGHTS = [1.0, 0.1, 0.2]  # of three heads
COHORTS = {"cohorts": ("a", "b"), "num_rows": [30.0, 10.0, 5.0]}  # the last: rows in none
LOSS_B, WEIGHT_B = torch.tensor([0.1, 0.2, 0.9, 1.5]), torch.tensor([1.0, 2.0, 1.0, 0.0])
COHORT_B = torch.tensor([0, 1, -1, -1])


def objectives() -> dict[str, Callable[[], nn.Module]]:
    """Weightings, ``(losses_H, gramian_HH) -> weights_H``, for three heads."""
    return {
        cls.__name__: partial(cls, weights=WEIGHTS)
        for cls in classes_in("c2al.objectives")
        if list(inspect.signature(cls.forward).parameters)[1:] == ["losses_H", "gramian_HH"]
    }


def row_weights() -> dict[str, Callable[[], nn.Module]]:
    """``(loss_B, weight_B, cohort_B) -> factor_B``, for an axis of two cohorts."""
    return {
        cls.__name__: partial(cls, **COHORTS)
        for cls in classes_in("c2al.objectives")
        if list(inspect.signature(cls.forward).parameters)[1:] == ["loss_B", "weight_B", "cohort_B"]
    }


def heads() -> dict[str, Callable[[], nn.Module]]:
    """``z_BE -> logits_BH``, for three heads; E is what ``tokens`` are when flat."""
    return {
        cls.__name__: partial(cls, in_features=NUM_TOKENS * DIM, num_heads=3)
        for cls in classes_in("c2al.heads")
        if required(cls) == {"in_features"}
    }


class OfTokens(nn.Module):
    """Heads as an architecture: they read the tokens laid flat."""

    def __init__(self, heads: nn.Module) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        return self.heads(x_BFD.flatten(1))


def representation() -> torch.Tensor:
    return torch.randn(64, NUM_TOKENS * DIM, generator=torch.Generator().manual_seed(3))


def check_export(make: Callable[[], nn.Module]) -> None:
    """The primary logits stay the same to the bit, and nothing is left that they do not use."""
    module = built(make)
    module.set_biases([-1.0, -2.0, -3.0])
    z_BE = representation()
    alone = module.without_auxiliary()
    assert torch.equal(alone(z_BE), module(z_BE)[:, :1])
    alone(z_BE).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in alone.parameters())
    assert all(p.grad is None for p in module.parameters()), "the copy shares memory with the original"
    assert set(alone.state_dict()) <= set(module.state_dict())


def check_biases(make: Callable[[], nn.Module]) -> None:
    """Heads start close to the base rates that they are given."""
    module = built(make)
    module.set_biases([-1.0, -2.0, -3.0])
    torch.testing.assert_close(module(representation()).mean(0), torch.tensor([-1.0, -2.0, -3.0]), atol=0.2, rtol=0)


def check_primary_starts_alike(make: Callable[[], nn.Module]) -> None:
    """Primary parts and whatever is drawn later do not depend on the number of auxiliary heads."""
    module = built(make)
    draw = torch.rand(3)
    few = built(partial(make, num_heads=2))
    assert torch.equal(draw, torch.rand(3))
    own = dict(module.named_parameters())
    assert all(torch.equal(p, own[name]) for name, p in few.named_parameters() if p.shape == own[name].shape)


HEADS_CHECKS = [check_export, check_biases, check_primary_starts_alike]


def check_weights(make: Callable[[], nn.Module]) -> None:
    """One finite, non-negative weight a head, that carries no gradient; the primary head counts."""
    losses_H = torch.tensor([0.3, 0.02, 0.01], requires_grad=True)
    objective = make()
    objective.at(1, 4)
    weights_H = objective(losses_H, 0.1 * torch.eye(3))
    assert weights_H.shape == (3,)
    assert weights_H.isfinite().all()
    assert weights_H.ge(0).all()
    assert weights_H[0] > 0
    assert not weights_H.requires_grad


def check_says_what_it_needs(make: Callable[[], nn.Module]) -> None:
    """Whether the Gramian must be computed is known before training; one that needs none works without."""
    objective = make()
    assert isinstance(objective.needs_gramian, bool)
    if not objective.needs_gramian:
        assert torch.equal(objective(torch.ones(3)), objective(torch.ones(3), torch.eye(3)))


def conflicting(seed: int = 0) -> torch.Tensor:
    """A Gramian of the size that gradients of a mean over thousands of rows have, with conflicts."""
    gradients_HX = torch.randn(3, 50, generator=torch.Generator().manual_seed(seed))
    gradients_HX[1] -= 2 * gradients_HX[0]
    return 1e-8 * gradients_HX @ gradients_HX.T


def check_same_seed_same_weights(make: Callable[[], nn.Module]) -> None:
    """Whatever torch's generator has drawn before, as it differs between ranks; and it is left as it was."""
    found = []
    for seed in (1, 2):
        objective = make()
        objective.at(3, 4)
        torch.manual_seed(seed)
        found.append(objective(torch.ones(3), conflicting()))
        drawn = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(*found)


def check_what_is_no_number(make: Callable[[], nn.Module]) -> None:
    """A zero Gramian gives finite weights; one of NaN raises nothing: the gradient's check says what happened."""
    objective = make()
    assert objective(torch.ones(3), torch.zeros(3, 3)).isfinite().all()
    objective(torch.full((3,), torch.nan), torch.full((3, 3), torch.nan))


def check_objective_state(make: Callable[[], nn.Module]) -> None:
    """All that training changes is in the state dict."""
    first, second = make(), make()
    for parameter in first.parameters():
        parameter.data.add_(0.5)
    second.load_state_dict(first.state_dict(), strict=True)
    for each in (first, second):
        each.at(2, 4)
    assert torch.equal(first(torch.ones(3), conflicting()), second(torch.ones(3), conflicting()))


def check_penalty_learns(make: Callable[[], nn.Module]) -> None:
    """Every parameter of a weighting gets its gradient from the penalty, which gives the losses none."""
    objective, losses_H = make(), torch.tensor([0.9, 0.3, 0.1], requires_grad=True)
    penalty = objective.penalty(losses_H)
    assert penalty.shape == ()
    if any(True for _ in objective.parameters()):
        penalty.backward()
    assert losses_H.grad is None
    assert all(p.grad is not None and p.grad.abs().min() > 0 for p in objective.parameters())


OBJECTIVE_CHECKS = [
    check_weights,
    check_says_what_it_needs,
    check_same_seed_same_weights,
    check_what_is_no_number,
    check_objective_state,
    check_penalty_learns,
]


def check_factors(make: Callable[[], nn.Module]) -> None:
    """Finite and not negative, no gradient, float32; equal whatever the order of the rows."""
    order = torch.tensor([2, 0, 3, 1])
    factor_B = make()(LOSS_B, WEIGHT_B, COHORT_B)
    assert factor_B.dtype == torch.float32
    assert factor_B.isfinite().all()
    assert factor_B.ge(0).all()
    assert not factor_B.requires_grad
    torch.testing.assert_close(make()(LOSS_B[order], WEIGHT_B[order], COHORT_B[order]), factor_B[order])


def check_row_state(make: Callable[[], nn.Module]) -> None:
    """A module that loads the state goes on alike."""
    first, second = make(), make()
    for _ in range(3):
        first(LOSS_B, WEIGHT_B, COHORT_B)
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first(LOSS_B, WEIGHT_B, COHORT_B), second(LOSS_B, WEIGHT_B, COHORT_B))


ROW_CHECKS = [check_factors, check_row_state]
