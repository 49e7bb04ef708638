"""One small run of C2AL, and its file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data.prepare import prepare_parquet
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


@pytest.fixture(scope="session")
def shop_run(tmp_path_factory):
    """A run on rows that were prepared from raw ones, with vocabularies and a bag."""
    folder, rng, num = tmp_path_factory.mktemp("shop"), np.random.default_rng(0), 800
    raw = {
        "user": [f"u{i}" for i in rng.integers(0, 40, num)],
        "item": rng.integers(0, 20, num),
        "price": rng.lognormal(0, 1, num),
        "tags": [[f"t{i}" for i in rng.integers(0, 9, k)] for k in rng.integers(0, 3, num)],
        "clicked": rng.integers(0, 2, num),
    }
    (folder / "raw").mkdir()
    pq.write_table(pa.table(raw), folder / "raw" / "rows.parquet")
    prepare_parquet(folder=str(folder / "raw"), to=str(folder / "rows"), label="clicked", axes=[])
    small = [word for word in runs.SMALL if not word.startswith("model.")]
    words = ["data=parquet", f"data.path={folder}/rows", f"run_dir={folder}/run", *small]
    from c2al.training.train import train

    train(runs.compose("config", [*words, "model=fm", "model.dim=8", "training.batch_size=32", "training.steps=6"]))
    ranks.stop()
    return str(folder / "run")


@pytest.fixture(scope="session")
def shop_file(shop_run, tmp_path_factory):
    from c2al.serving.export import export

    path = str(tmp_path_factory.mktemp("shop_file") / "model.pt2")
    export(shop_run, to=path, say=lambda _: None)
    return path


@pytest.fixture
def quiet():
    return lambda _: None
