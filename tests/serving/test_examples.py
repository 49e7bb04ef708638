import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from c2al.schema import DataError, Schema
from c2al.serving.artefact import open_artefact
from c2al.serving.examples import same_encoding
from c2al.serving.export import export
from c2al.training.saved_run import SavedRun


@pytest.fixture
def rows(shop_run, tmp_path):
    """A copy of the prepared rows, to be spoiled."""
    return shutil.copytree(SavedRun(shop_run).config.data.path, tmp_path / "rows")


def compared(shop_file, rows):
    return same_encoding(open_artefact(shop_file), str(rows), Schema.load(str(rows)))


def change(rows, name, column, edit):
    path = rows / "examples" / f"{name}.parquet"
    table = pq.read_table(path)
    values = edit(table.column(column).to_pylist())
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(column).type)), path)


def test_raw_rows_are_encoded_as_they_were_prepared(shop_file, rows):
    found = compared(shop_file, rows)
    assert found["rows"] > 100
    assert found["columns"] == 4
    assert found["vocabularies"] == 3
    assert open_artefact(shop_file).manifest["parity"]["encoding"] == found


def bump(values):
    return [values[0], values[1] + 1, *values[2:]]


@pytest.mark.parametrize(
    ("column", "edit"),
    [
        ("user", bump),
        ("item", bump),
        ("price", lambda values: [*values[:-1], values[-1] + 1e-6]),
        ("tags", lambda values: [[*values[0], 1], *values[1:]]),
    ],
)
def test_any_difference_names_column_value_and_both(shop_file, rows, column, edit):
    change(rows, "prepared", column, edit)
    with pytest.raises(DataError, match=r"is encoded as .* in training it was") as raised:
        compared(shop_file, rows)
    assert f"column {column}, value " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_examples_vocabularies_are_checked_and_it_is_said(shop_file, rows):
    shutil.rmtree(rows / "examples")
    assert compared(shop_file, rows) == {"rows": 0, "vocabularies": 3}


def test_two_columns_of_one_vocabulary_file(shop_file, rows):
    raw = yaml.safe_load((rows / "schema.yaml").read_text())
    first, second, *_ = (column for column in raw["sparse"] if column.get("vocabulary"))
    second["vocabulary"] = first["vocabulary"]
    (rows / "schema.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    shutil.rmtree(rows / "examples")
    with pytest.raises(DataError, match="one vocabulary file"):
        compared(shop_file, rows)


def test_nothing_is_written_where_the_vocabulary_is_another_one(shop_run, tmp_path, quiet, monkeypatch):
    """As if the rows had been prepared anew since: the same number of values, in another order."""
    from c2al.serving import export as module

    real = module.fsspec.open

    def other(path, *words, **options):
        if "/vocabularies/" not in str(path) or "user" not in str(path):
            return real(path, *words, **options)
        table = pq.read_table(path)
        swapped = tmp_path / "other.parquet"
        pq.write_table(pa.table({"value": table["value"].to_pylist()[::-1], "id": table["id"]}), swapped)
        return real(str(swapped), *words, **options)

    monkeypatch.setattr(module.fsspec, "open", other)
    with pytest.raises(DataError, match=r"(is encoded as|stand for other values).* column user"):
        export(shop_run, to=str(tmp_path / "m.pt2"), say=quiet)
    assert not (tmp_path / "m.pt2").exists()


def test_examples_that_do_not_read(shop_file, rows):
    (rows / "examples" / "raw.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="do not read"):
        compared(shop_file, rows)


def test_examples_of_unequal_length(shop_file, rows):
    path = rows / "examples" / "raw.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DataError, match="raw rows beside"):
        compared(shop_file, rows)
