import copy
import json
import math
import random
import zlib
from pathlib import Path

import pytest

from c2al.schema import DataError
from c2al.serving.archive import MANIFEST, OWN, ROOT, Archive
from c2al.serving.artefact import open_artefact
from c2al.serving.manifest import Described, table_record
from tests.serving.forge import forged, with_manifest


@pytest.fixture(scope="module")
def manifest(shop_file):
    return Archive(shop_file).manifest


def edited(manifest, edit):
    found = copy.deepcopy(manifest)
    edit(found)
    return found


def test_what_export_writes_is_described(manifest):
    described = Described(manifest, "m.pt2")
    assert (described.kind, described.dtype, described.device) == ("export", "fp32", "cpu")
    assert described.vocabularies.keys() == {column.name for column in described.schema.sparse if column.vocabulary}


def first(manifest):
    return manifest["inputs"]["sparse"][0]


def column(manifest):
    return manifest["schema"]["sparse"][0]


EDITS = {
    "another kind": lambda m: m.update(kind="pickle"),
    "no kind": lambda m: m.pop("kind"),
    "a kind of another type": lambda m: m.update(kind=["export"]),
    "another type of tables": lambda m: m.update(dtype="object"),
    "another device": lambda m: m.update(device="meta"),
    "no name": lambda m: m.update(name=None),
    "no schema": lambda m: m.update(schema=[]),
    "no columns": lambda m: m["schema"].update(sparse=None),
    "no versions": lambda m: m.pop("versions"),
    "an unknown key of a column": lambda m: column(m).update(evil=1),
    "a column without a name": lambda m: column(m).pop("name"),
    "a name of another type": lambda m: column(m).update(name=1),
    "a flag of another type": lambda m: column(m).update(hashed=1),
    "rows of another type": lambda m: first(m).update(num_rows=True),
    "rows as text": lambda m: first(m).update(num_rows="5"),
    "rows beyond bounds": lambda m: (first(m).update(num_rows=2**50), column(m).update(num_rows=2**50)),
    "no rows": lambda m: (first(m).update(num_rows=0), column(m).update(num_rows=0)),
    "a table of another size than its column": lambda m: column(m).update(num_rows=column(m)["num_rows"] - 1),
    "a table wider than any": lambda m: first(m).update(width=2**40),
    "a negative width": lambda m: first(m).update(width=-16),
    "a negative place": lambda m: first(m).update(base=-64),
    "a place beyond": lambda m: first(m).update(base=2**40),
    "places beyond bounds": lambda m: first(m).update(places=2**40),
    "a column twice": lambda m: m["inputs"]["sparse"].append(dict(first(m))),
    "a column of none": lambda m: first(m).update(name="none"),
    "a column less in the schema": lambda m: m["schema"]["sparse"].pop(0),
    "a number that is none": lambda m: m["schema"]["dense"][0].update(mean=math.nan),
    "a number as text": lambda m: m["schema"]["dense"][0].update(std="1"),
    "a width of tokens": lambda m: m["inputs"].update(dim=2**40),
    "no width of tokens": lambda m: m["inputs"].pop("dim"),
    "dense tokens of another number": lambda m: m["inputs"]["dense_tokens"].update(num_dense=99),
    "dense tokens beyond bounds": lambda m: m["inputs"]["dense_tokens"].update(hidden=2**40),
    "dense tokens of another type": lambda m: m["inputs"].update(dense_tokens=[1]),
    "a number of 400 digits": lambda m: m["schema"]["dense"][0].update(mean=10**400),
    "a scale of 400 digits": lambda m: m["schema"]["dense"][0].update(std=10**400),
    "a scale of nothing": lambda m: m["schema"]["dense"][0].update(std=0),
    "a scale below nothing": lambda m: m["schema"]["dense"][0].update(std=-1.0),
    "an unknown transform": lambda m: m["schema"]["dense"][0].update(transform="sqrt"),
    "two zones": lambda m: column(m).update(raw_type="timestamp[us, tz=a, tz=b]"),
    "an unknown unit": lambda m: column(m).update(raw_type="timestamp[zz, tz=a]"),
    "a decimal of no digits": lambda m: column(m).update(raw_type="decimal(0, 1)"),
    "a decimal of too many": lambda m: column(m).update(raw_type="decimal(99, 1)"),
    "a decimal beyond reading": lambda m: column(m).update(raw_type=f"decimal({'9' * 5000}, 1)"),
    "lists in lists": lambda m: column(m).update(raw_type="list<a: " * 3000),
    "a type of too many letters": lambda m: column(m).update(raw_type="x" * 1001),
    "chances that fall": lambda m: m.update(calibration=curve([0.0, 1.0], [0.9, 0.1])),
    "a curve of flags": lambda m: m.update(calibration=curve([True], [0.5])),
    "a curve of 400 digits": lambda m: m.update(calibration=curve([10**400], [0.5])),
    "a chance of 400 digits": lambda m: m.update(calibration=curve([0], [10**400])),
    "an unknown policy": lambda m: m["policy"].update(unknown="run"),
    "a policy of another type": lambda m: m["policy"].update(null=[]),
    "an unknown calibration": lambda m: m.update(calibration={"kind": "code"}),
    "a share that is none": lambda m: m.update(calibration={"kind": "sampling", "kept": 2}),
    "no share": lambda m: m.update(calibration={"kind": "sampling"}),
    "a curve that falls": lambda m: m.update(calibration=curve([1.0, 0.0], [0.5, 0.5])),
    "a curve of two lengths": lambda m: m.update(calibration=curve([1.0], [0.5, 0.5])),
    "a curve beyond 1": lambda m: m.update(calibration=curve([1.0], [1.0])),
    "a curve of texts": lambda m: m.update(calibration=curve(["1"], [0.5])),
    "no curve": lambda m: m.update(calibration={"kind": "isotonic"}),
}


def curve(logit, probability):
    return {"kind": "isotonic", "logit": logit, "probability": probability}


@pytest.mark.parametrize("edit", EDITS)
def test_what_no_manifest_says_is_refused(manifest, edit):
    with pytest.raises(DataError, match="the manifest is refused") as raised:
        Described(edited(manifest, EDITS[edit]), "m.pt2")
    assert "\n" not in str(raised.value)
    assert "m.pt2" in str(raised.value)


def test_files_of_before_name_vocabularies_by_their_columns(shop_file, tmp_path):
    first_name = Archive(shop_file).manifest["schema"]["sparse"][0]["name"]

    def edit(records, manifest):
        columns = manifest["schema"]["sparse"]
        columns[0]["name"] = manifest["inputs"]["sparse"][0]["name"] = "one/two.three"
        records[f"{OWN}vocabularies/one/two.three.parquet"] = records.pop(f"{OWN}vocabularies/{first_name}.parquet")

    old, new = open_artefact(forged(shop_file, tmp_path / "m.pt2", edit)), open_artefact(shop_file)
    assert len(new.vocabulary(first_name)) == new.schema.sparse[0].num_rows - 1
    assert old.vocabulary("one/two.three").equals(new.vocabulary(first_name))


def test_a_vocabulary_that_is_not_there(shop_file, tmp_path):
    """All would score as unknown."""

    def edit(records, manifest):
        del records[f"{OWN}vocabularies/{manifest['schema']['sparse'][0]['name']}.parquet"]

    with pytest.raises(DataError, match="the file has none of it"):
        open_artefact(forged(shop_file, tmp_path / "m.pt2", edit))


def test_tables_are_as_large_as_their_columns_say(file, tmp_path):
    width = Archive(file).manifest["inputs"]["sparse"][0]["width"]

    def cut(records, manifest):
        records[table_record(width, 0)] = records[table_record(width, 0)][:-4]

    def gone(records, manifest):
        del records[table_record(width, 0)]

    with pytest.raises(DataError, match="its columns say"):
        open_artefact(forged(file, tmp_path / "m.pt2", cut))
    with pytest.raises(DataError, match="is missing"):
        open_artefact(forged(file, tmp_path / "m.pt2", gone))


def test_sizes_are_looked_at_before_anything_is_read(file, tmp_path, monkeypatch):
    """A manifest that says a table of petabytes is refused, not allocated or hashed."""

    def edit(manifest):
        for each in manifest["inputs"]["sparse"] + manifest["schema"]["sparse"]:
            each["num_rows"] = 2**39

    path = with_manifest(file, tmp_path / "m.pt2", edit)
    monkeypatch.setattr(Archive, "check_contents", lambda self: pytest.fail("read before it was refused"))
    with pytest.raises(DataError, match="the manifest is refused"):
        open_artefact(path)


VALUES = [None, True, 0, -1, 1, 2**31, 2**63, 2**70, 1e308, "", "a", "\0", "../../etc/passwd", [], {}, [[]], {"a": 1}]


def places(raw, path=()):
    yield path
    for key, each in raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ():
        yield from places(each, (*path, key))


def test_mutations_are_refused_or_described(manifest):
    found, rng = [path for path in places(manifest) if path], random.Random(0)
    refused, described = [], 0
    for _ in range(2000):
        raw = json.loads(json.dumps(manifest))
        path, inside = rng.choice(found), raw
        for key in path[:-1]:
            inside = inside[key]
        if rng.random() < 0.2:
            del inside[path[-1]]
        else:
            inside[path[-1]] = rng.choice(VALUES)
        try:
            Described(raw, "m.pt2")
            described += 1
        except DataError as error:
            refused.append(str(error))
    assert min(len(refused), described) > 20
    assert not any("\n" in said for said in refused)


def test_the_manifest_has_the_checksum_of_itself(file, tmp_path):
    """A byte of it that is changed alone, with the zip's own checksum made to fit, changes what the scores mean."""
    whole, record = bytearray(Path(file).read_bytes()), Archive(file)._records[MANIFEST]
    content = bytes(whole[record.begin : record.begin + record.num_bytes])
    changed = content.replace(b'"unknown": "zero"', b'"unknown": "zerO"', 1)
    assert changed != content
    whole[record.begin : record.begin + record.num_bytes] = changed
    old, new = (zlib.crc32(each).to_bytes(4, "little") for each in (content, changed))
    (tmp_path / "m.pt2").write_bytes(bytes(whole).replace(old, new))
    with pytest.raises(DataError, match="manifest has another checksum"):
        open_artefact(str(tmp_path / "m.pt2"))


def test_a_foreign_root_is_no_record(file, tmp_path):
    edit = lambda records, manifest: records.update({f"{ROOT}/c2al/x": b""})  # noqa: E731
    with pytest.raises(DataError, match="never holds"):
        open_artefact(forged(file, tmp_path / "m.pt2", edit))
