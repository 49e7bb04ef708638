"""Runs the contracts of objectives and heads over everything that exists."""

import pytest

from tests import contracts
from tests import method_contracts as methods

OBJECTIVES, ROW_WEIGHTS, HEADS = methods.objectives(), methods.row_weights(), methods.heads()


def test_the_scan_finds_what_there_is():
    assert {"Fixed", "PCGrad", "CAGrad", "Uncertainty"} <= set(OBJECTIVES)
    assert {"Reweighting", "GroupDRO"} <= set(ROW_WEIGHTS)
    assert {"Towers", "MMoE", "PLE"} <= set(HEADS)


@pytest.mark.parametrize("check", methods.OBJECTIVE_CHECKS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective(name, check):
    check(OBJECTIVES[name])


@pytest.mark.parametrize("check", methods.ROW_CHECKS)
@pytest.mark.parametrize("name", ROW_WEIGHTS)
def test_row_weights(name, check):
    check(ROW_WEIGHTS[name])


@pytest.mark.parametrize("check", methods.HEADS_CHECKS)
@pytest.mark.parametrize("name", HEADS)
def test_heads(name, check):
    check(HEADS[name])


@pytest.mark.parametrize("check", contracts.ARCHITECTURE_CHECKS)
@pytest.mark.parametrize("name", HEADS)
def test_heads_as_an_architecture(name, check):
    check(lambda: methods.OfTokens(HEADS[name]()))
