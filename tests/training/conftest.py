"""One run that went through undisturbed, for others to be compared with."""

import pytest

from tests import runs


@pytest.fixture(scope="session")
def whole_run(tiny_rows, tmp_path_factory):
    """The folder of a finished C2AL run of 24 steps."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    runs.trained(tiny_rows, folder, "method=c2al", *runs.PAIR)
    return folder
