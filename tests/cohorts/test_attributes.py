import numpy as np
import pytest

from c2al.cohorts.attributes import Attribute


def test_numbers_are_said_as_the_user_knows_them():
    price = Attribute("price", "price", (), "log1p", mean=2.35, std=0.74)
    assert price.is_number
    stored = (np.log1p(12.5) - 2.35) / 0.74
    assert float(price.raw(stored)) == pytest.approx(12.5)
    assert Attribute("age", "age", mean=40, std=10).raw(-1.5) == "25"
    assert not Attribute("region", "region", ("none", "north")).is_number
