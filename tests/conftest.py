"""Rows and runs that many tests look at, made once."""

import pytest

from c2al.data import synthetic


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory) -> str:
    """A prepared folder of 6,000 synthetic rows: 4,800 to train, 600 each to validate and to test."""
    folder = str(tmp_path_factory.mktemp("rows") / "synthetic")
    synthetic.prepare(to=folder, rows=6000)
    return folder
