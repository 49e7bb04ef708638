"""Runs the contracts over everything that exists."""

import pytest

from tests import contracts
from tests.contracts import DIM, ROWS

ARCHITECTURES = contracts.architectures()
INTERACTIONS = contracts.interactions()


def test_the_scan_finds_what_there_is():
    assert "DHEN" in ARCHITECTURES
    assert {"FMBlock_3", "TokenLinear_3", "SelfAttention_3", "CrossBlock_3", "FMBlock_7"} <= set(INTERACTIONS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_shape(name):
    make = ARCHITECTURES[name]
    contracts.check_shape(make, (ROWS, make().out_features))


@pytest.mark.parametrize("name", INTERACTIONS)
def test_interaction_shape(name):
    make = INTERACTIONS[name]
    contracts.check_shape(make, (ROWS, make.keywords["out_tokens"], DIM))


@pytest.mark.parametrize("check", contracts.ARCHITECTURE_CHECKS)
@pytest.mark.parametrize("name", {**ARCHITECTURES, **INTERACTIONS})
def test_architecture(name, check):
    check({**ARCHITECTURES, **INTERACTIONS}[name])
