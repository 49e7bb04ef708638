"""Raw rows of every type that is met in practice, and a short way to prepare them."""

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.data.prepare import prepare_parquet
from c2al.schema import SPLITS, Schema

NUM = 4_000


def raw_rows(num: int = NUM, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    when = np.datetime64("2024-01-01T00:00:00", "us") + rng.integers(0, 30 * 86_400, num).astype("timedelta64[s]")
    tags = [[f"t{j}" for j in rng.integers(0, 20, length)] if length else None for length in rng.integers(0, 5, num)]
    return pa.table(
        {
            "user_id": pa.array(rng.integers(0, 300, num).astype(np.float64), mask=rng.random(num) < 0.02),
            "movie": rng.integers(1, 500, num),
            "country": pa.array(
                rng.choice(["de", "fr", "uk"], num, p=[0.6, 0.3, 0.1]), mask=rng.random(num) < 0.05
            ).dictionary_encode(),
            "mobile": rng.random(num) < 0.5,
            "spend": pa.array(rng.lognormal(0, 2, num), mask=rng.random(num) < 0.1),
            "heat": rng.normal(20, 5, num).astype(np.float32),
            "tags": pa.array(tags, pa.list_(pa.string())),
            "when": when,
            "title": [f"title {i}" for i in range(num)],
            "always": np.ones(num, dtype=np.int64),
            "never": pa.nulls(num),
            "visits": rng.geometric(0.01, num),
            "embedding": pa.array(list(rng.normal(size=(num, 2)))),
            "clicked": rng.random(num) < 0.2,
        }
    )


def write(tmp_path, table: pa.Table) -> str:
    (tmp_path / "raw").mkdir(exist_ok=True)
    pq.write_table(table, tmp_path / "raw" / "a.parquet")
    return str(tmp_path / "raw")


def prepared(folder: str, **options) -> tuple[Schema, dict[str, pa.Table]]:
    to = f"{folder.rstrip('/')}_prepared"
    schema = prepare_parquet(folder=folder, to=to, **{"label": "clicked", **options})
    files, root = fsspec.url_to_fs(to)
    return schema, {split: pq.read_table(f"{root}/{split}", filesystem=files) for split in SPLITS}
