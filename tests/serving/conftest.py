"""One small run of C2AL, and its file."""

import pytest

from c2al.parallel import ranks
from tests import runs


@pytest.fixture(scope="session")
def run(tiny_rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "run"
    runs.trained(tiny_rows, folder, "method=c2al", *runs.PAIR)
    ranks.stop()
    return str(folder)


@pytest.fixture(scope="session")
def file(run, tmp_path_factory):
    from c2al.serving.export import export

    path = str(tmp_path_factory.mktemp("file") / "model.pt2")
    export(run, to=path, say=lambda _: None)
    return path


@pytest.fixture
def quiet():
    return lambda _: None
