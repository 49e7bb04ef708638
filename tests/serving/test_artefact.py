import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from c2al.schema import DataError, Schema
from c2al.serving import programs, serve
from c2al.serving.artefact import Artefact, open_artefact
from c2al.serving.inputs import Inputs
from c2al.serving.score import score
from c2al.serving.service_settings import Settings
from c2al.serving.triton import random_inputs
from c2al.training.saved_run import SavedRun
from tests import runs
from tests.serving.forge import forged, with_manifest


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


@pytest.fixture
def machine_code(file, tmp_path):
    """A file that says it is compiled, with a library that nobody asked for."""

    def edit(records, manifest):
        for name in [name for name in records if "/c2al/" not in name]:
            del records[name]
        records["model/data/aotinductor/model/evil.wrapper.so"] = b"\x7fELF"
        manifest |= {"kind": "aoti", "machine": programs.machine("cpu")}

    return forged(file, tmp_path / "code.pt2", edit)


def test_machine_code_opens_for_those_alone_who_trust_it(machine_code, tiny_rows, tmp_path, monkeypatch):
    """Through every door: Python, score, serve."""
    monkeypatch.setattr(programs, "_load_compiled", lambda archive, manifest: pytest.fail("opened"))
    doors = {
        "open": lambda: open_artefact(machine_code),
        "score": lambda: score(machine_code, data=tiny_rows, split="test", to=str(tmp_path / "s.parquet")),
        "serve": serve._opener(Settings(artefact=machine_code)),
    }
    for door in doors.values():
        with pytest.raises(DataError, match="trust_code=true"):
            door()
    assert not (tmp_path / "s.parquet").exists()


def test_trust_is_handed_on(machine_code, tiny_rows, tmp_path, monkeypatch):
    opened = []

    def load(archive, manifest):
        opened.append(archive.path)
        raise DataError("opened", remedy="none")

    monkeypatch.setattr(programs, "_load_compiled", load)
    doors = [
        lambda: open_artefact(machine_code, trust_code=True),
        lambda: score(machine_code, data=tiny_rows, split="test", to=str(tmp_path / "s.parquet"), trust_code=True),
        serve._opener(Settings(artefact=machine_code, trust_code=True)),
    ]
    for door in doors:
        with pytest.raises(DataError, match="opened"):
            door()
    assert len(opened) == 3


def test_a_model_that_does_not_run_does_not_open(file, tmp_path):
    """Modules of one size and a table of another."""

    def edit(manifest):
        manifest["inputs"]["sparse"][0]["multi"] = manifest["schema"]["sparse"][0]["multi"] = True

    with pytest.raises(DataError) as raised:
        open_artefact(with_manifest(file, tmp_path / "m.pt2", edit))
    assert "\n" not in str(raised.value)


def test_a_program_that_fails_at_some_number_of_rows_says_so(file, monkeypatch):
    artefact = open_artefact(file)

    def fails(*arguments):
        raise RuntimeError("the size of tensor a\nand more")

    monkeypatch.setattr(artefact, "_program", fails)
    with pytest.raises(DataError, match=r"does not run: RuntimeError the size of tensor a.*5 rows"):
        artefact(random_inputs(artefact, 5))


def vocabulary_of(content):
    def edit(records, manifest):
        name = manifest["schema"]["sparse"][0]["name"]
        records[f"model/c2al/vocabularies/{name}.parquet"] = content

    return edit


def parquet_of(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def test_vocabularies_that_are_not_those_of_their_tables(shop_file, tmp_path):
    artefact = open_artefact(shop_file)
    name = artefact.schema.sparse[0].name
    values = artefact.vocabulary(name).to_pylist()
    ids, num = list(range(1, len(values) + 1)), len(values)
    wrong = {
        "beside a table of": parquet_of(value=values[:-1], id=ids[:-1]),
        "ids are not 1, 2, 3": parquet_of(value=values, id=[*ids[:-1], num + 5]),
        "a value twice": parquet_of(value=[values[1], *values[1:]], id=ids),
        "does not read": b"PAR1 and no more",
        "does not exist": parquet_of(text=values, id=ids),
        "are no texts": parquet_of(value=ids, id=ids),
    }
    for said, content in wrong.items():
        with pytest.raises(DataError, match=said) as raised:
            open_artefact(forged(shop_file, tmp_path / "m.pt2", vocabulary_of(content))).vocabulary(name)
        assert name in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_vocabulary_is_not_unpacked_before_its_rows_are_counted(shop_file, tmp_path):
    """Ten million equal values are a few kilobytes of Parquet."""
    artefact = open_artefact(shop_file)
    name = artefact.schema.sparse[0].name
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**7, np.int8)), ["x"])
    content = parquet_of(value=many, id=np.zeros(10**7, np.int32))
    assert len(content) < 10**5
    with pytest.raises(DataError, match="10000000 values beside"):
        open_artefact(forged(shop_file, tmp_path / "m.pt2", vocabulary_of(content))).vocabulary(name)


def test_mutated_bytes_are_refused_or_score_the_same(file, artefact, tmp_path):
    whole, rows = Path(file).read_bytes(), random_inputs(artefact, 8)
    logit_B, rng, path = artefact(rows), random.Random(0), tmp_path / "m.pt2"
    ways = [
        lambda b, at: b[:at] + bytes([b[at] ^ rng.randrange(1, 256)]) + b[at + 1 :],
        lambda b, at: b[:at],
        lambda b, at: b[:at] + rng.randbytes(rng.randrange(1, 40)) + b[at:],
        lambda b, at: b[:at] + b[at + rng.randrange(1, 1000) :],
        lambda b, at: b[:at] + b"\xff" * 8 + b[at + 8 :],
    ]
    refused, directory = [], whole.rindex(b"model/c2al/tables") - 46
    for i in range(150):
        at = rng.randrange(directory, len(whole)) if i % 2 else rng.randrange(len(whole))
        path.write_bytes(rng.choice(ways)(whole, at))
        try:
            np.testing.assert_array_equal(open_artefact(str(path))(rows), logit_B)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not any("\n" in said for said in refused)
