"""A model of one number, two sparse columns and a bag, as an artefact is; its logits can be reckoned by hand.

python -m tests.serving.fake_model model=fake.json port=0      serves the one that the file says
"""

import json
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from c2al.schema import DataError, DenseColumn, Schema, SparseColumn
from c2al.serving.inputs import Inputs

COUNTRIES, ITEMS = ["de", "fr", "it"], ["a", "b", "c", "d"]
SCHEMA = Schema(
    "fake",
    "clicked",
    (
        SparseColumn("country", 4, vocabulary="vocabularies/country.parquet"),
        SparseColumn("city", 101, hashed=True),
        SparseColumn("seen", 5, multi=True, vocabulary="vocabularies/seen.parquet"),
    ),
    (DenseColumn("age", mean=40.0, std=10.0),),
)


class FakeColumns:
    dense, single, bags = ["age"], ["country", "city"], ["seen"]


class FakeArtefact:
    """``bias`` tells one from another; ids of country above 3 (prepared ones may be) make the model fail.

    With ``gate`` it waits in every run of more rows than two, so that those of the trial pass.
    """

    def __init__(self, bias: float = 0.0, *, checksum: str = "c0ffee", gate: threading.Event | None = None) -> None:
        self.path, self.schema, self.columns, self.bias, self.gate = "fake.pt2", SCHEMA, FakeColumns(), bias, gate
        self.sizes: list[int] = []
        self.entered = threading.Event()
        self.manifest: dict[str, Any] = {
            **{"format": 1, "kind": "export", "dtype": "float32", "device": "cpu", "name": "fake", "made_at": "2026"},
            **{"versions": {"c2al": "0"}, "config": {"secret": "place"}, "metrics": {"ne": 0.8}, "records": []},
            **{"schema": {part: [asdict(each) for each in getattr(SCHEMA, part)] for part in ("dense", "sparse")}},
            **{"parity": {"worst": 0.0}, "calibration": {"kind": "none"}},
            **{"policy": {"unknown": "zero", "null": "zero", "missing": "error"}, "checksum": checksum},
        }

    def vocabulary(self, column: str) -> pa.Array:
        return pa.array({"country": COUNTRIES, "seen": ITEMS}[column])

    def __call__(self, inputs: Inputs) -> np.ndarray:
        if self.gate is not None and len(inputs) > 2:
            self.entered.set()
            assert self.gate.wait(900)
        self.sizes.append(len(inputs))
        if (inputs.ids_BS[:, 0] == 3).any() and self.bias < 0:
            raise RuntimeError("secret of the model")
        return logits_of(inputs, self.bias)


def logits_of(inputs: Inputs, bias: float) -> np.ndarray:
    """bias + age + country / 10 + (city mod 7) / 100 + the sum of seen / 1000, in float32, the same in any batch."""
    seen = inputs.bags["seen"]
    sums, ends = np.append(0, np.cumsum(seen.values_V)), np.cumsum(seen.lengths_B)
    bag_B = sums[ends] - sums[ends - seen.lengths_B]
    ids_BS = inputs.ids_BS
    logit_B = bias + inputs.dense_BN[:, 0].astype(float) + ids_BS[:, 0] / 10 + ids_BS[:, 1] % 7 / 100 + bag_B / 1000
    return logit_B.astype(np.float32)


class SlowArtefact(FakeArtefact):
    """Takes ``seconds`` for each run of more than two rows."""

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._seconds = seconds

    def __call__(self, inputs: Inputs) -> np.ndarray:
        time.sleep(self._seconds if len(inputs) > 2 else 0)
        return super().__call__(inputs)


def open_fake(path: str) -> FakeArtefact:
    """What a JSON file says: ``{"bias": 1.0, "seconds": 0.5, "load_s": 0}``; a DataError where it is none."""
    try:
        found = json.loads(Path(path).read_text())
    except ValueError as error:
        raise DataError(f"not an artefact: {error}", file=path, remedy="export it again") from None
    Path(path).with_suffix(".loading").touch()
    time.sleep(found.get("load_s", 0))
    return SlowArtefact(found["seconds"], bias=found["bias"], checksum=f"bias {found['bias']}")


def main() -> None:
    """``c2al serve``, but for what opens the model."""
    from c2al import cli
    from c2al.serving import serve

    serve._opener = lambda settings: lambda: open_fake(settings.artefact)
    sys.argv = ["c2al", "serve", *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
