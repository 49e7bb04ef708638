import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from c2al.schema import DataError, Schema
from c2al.serving.artefact import Artefact, open_artefact
from c2al.serving.inputs import Inputs
from c2al.serving.triton import random_inputs
from c2al.training.saved_run import SavedRun
from tests import runs


@pytest.fixture(scope="module")
def artefact(file) -> Artefact:
    return open_artefact(file)


@pytest.mark.parametrize("rows", [1, 2, 64, 1000])
def test_rows_score_alike_in_any_company(artefact, rows):
    inputs = random_inputs(artefact, rows)
    logit_B = artefact(inputs)
    assert logit_B.dtype == np.float32
    assert logit_B.shape == (rows,)
    np.testing.assert_allclose(artefact(inputs.rows(0, 1)), logit_B[:1], atol=1e-6)


def test_no_rows(artefact):
    assert artefact(random_inputs(artefact, 3).rows(1, 1)).shape == (0,)


def test_many_rows_go_through_in_parts(artefact, monkeypatch):
    inputs = random_inputs(artefact, 100)
    whole = artefact(inputs)
    monkeypatch.setattr("c2al.serving.artefact.MOST_ROWS", 7)
    np.testing.assert_allclose(artefact(inputs), whole, atol=1e-6)


@pytest.mark.parametrize("bad", [-1, 10**9])
def test_an_id_that_is_none_of_its_tables_is_refused(artefact, bad):
    inputs = random_inputs(artefact, 4)
    ids = inputs.ids_BS.copy()
    ids[2, 1] = bad
    with pytest.raises(DataError) as raised:
        artefact(Inputs(inputs.dense_BN, ids, inputs.bags))
    assert artefact.columns.single[1] in str(raised.value)
    name = artefact.columns.bags[0]
    inputs.bags[name].values_V[0] = bad
    with pytest.raises(DataError, match=f"column {name}, value {bad}"):
        artefact(inputs)


def test_it_knows_its_columns_and_vocabularies(artefact, run):
    schema = Schema.load(SavedRun(run).config.data.path)
    assert [column.name for column in artefact.schema.sparse] == [column.name for column in schema.sparse]
    assert artefact.schema.axes == ()
    assert artefact.columns.dense == tuple(column.name for column in schema.dense)
    for column in schema.sparse:
        if column.vocabulary:
            stored = pq.read_table(f"{SavedRun(run).config.data.path}/{column.vocabulary}")
            assert artefact.vocabulary(column.name).to_pylist() == stored.sort_by("id")["value"].to_pylist()


def test_opening_imports_nothing_that_trains(file):
    code = (
        f"import sys; from c2al.serving.artefact import open_artefact; open_artefact({file!r})\n"
        "found = {'torchrec', 'fbgemm_gpu', 'hydra', 'omegaconf', 'c2al.training', 'c2al.parallel', 'c2al.model'}"
        " & set(sys.modules); assert not found, found"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=runs.ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_tables_stay_in_the_file(artefact):
    """Mapped, not read: processes share the pages."""
    assert all(isinstance(table.numpy().base, np.memmap) or table.numpy().base is not None for table in artefact.tables)
    with open("/proc/self/maps") as maps:
        assert any(artefact.path in line for line in maps)


def test_plain_torch_opens_it(file, artefact):
    program = torch.export.load(file).module()
    inputs = random_inputs(artefact, 5)
    bags = list(inputs.bags.values())
    arguments = [torch.from_numpy(inputs.dense_BN), torch.from_numpy(inputs.ids_BS)]
    arguments += [[torch.from_numpy(bag.values_V) for bag in bags], [torch.from_numpy(bag.lengths_B) for bag in bags]]
    with torch.no_grad():
        np.testing.assert_array_equal(program(artefact.tables, *arguments).numpy(), artefact(inputs))
