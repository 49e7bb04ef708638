import os
import pickle
from dataclasses import replace

import pytest
import yaml

from c2al.schema import CohortAxis, DataError, DenseColumn, Schema, SparseColumn, Split

AXES = (
    CohortAxis("age", ("18-24", "25-34", "56+")),
    CohortAxis("surface", ("feed", "story")),
    CohortAxis("spend", ("bottom 5%", "5-95%", "top 5%"), kind="quantile", edges=(1.5, 20.0)),
    CohortAxis("a_x_b", ("p", "q")),
)
SCHEMA = Schema(
    name="ads",
    label="clicked",
    sparse=(
        SparseColumn("user", 11, vocabulary="vocabularies/user.parquet"),
        SparseColumn("tags", 5, multi=True, hashed=True),
    ),
    dense=(DenseColumn("price", "log1p", 1.0, 2.0),),
    axes=AXES,
    weight="weight",
    unit="household",
    splits={"train": Split(10, 1, 10.0, 1.0)},
    notes={"found": [{"column": "Größe", "pair": ("a", "b")}]},
)


def test_what_is_saved_loads_equal_but_for_tuples_in_notes(tmp_path):
    SCHEMA.save(str(tmp_path) + "/")
    loaded = Schema.load(str(tmp_path))
    assert loaded.notes == {"found": [{"column": "Größe", "pair": ["a", "b"]}]}
    assert (loaded.sparse, loaded.dense, loaded.axes, loaded.splits) == (
        SCHEMA.sparse,
        SCHEMA.dense,
        SCHEMA.axes,
        SCHEMA.splits,
    )
    assert (loaded.label, loaded.weight, loaded.unit) == ("clicked", "weight", "household")


def test_a_folder_without_schema_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="c2al prepare"):
        Schema.load(str(tmp_path))


@pytest.mark.parametrize("text", ["", "sparse: 3", "sparse: []\ndense: [", "- 1", "name: x\nsparse: [{nome: x}]"])
def test_a_broken_schema_names_the_file(tmp_path, text):
    (tmp_path / "schema.yaml").write_text(text)
    with pytest.raises(DataError, match=r"schema\.yaml"):
        Schema.load(str(tmp_path))


def test_crossed_axes_number_pairs_row_by_row():
    axis = SCHEMA.axis("age_x_surface")
    assert axis.kind == "cross"
    assert axis.crosses == ("age", "surface")
    for a, age in enumerate(AXES[0].cohorts):
        for b, surface in enumerate(AXES[1].cohorts):
            assert axis.cohorts[a * 2 + b] == f"{age} × {surface}"


def test_names_that_hold_the_cross_sign_are_found_whole_or_crossed():
    assert SCHEMA.axis("a_x_b").cohorts == ("p", "q")
    assert SCHEMA.axis("a_x_b_x_age").crosses == ("a_x_b", "age")
    assert SCHEMA.axis("age_x_a_x_b").crosses == ("age", "a_x_b")


@pytest.mark.parametrize(
    ("name", "nearest"), [("aeg", "age"), ("age_x_surfce", "age"), ("nothing_like_it", "known: age")]
)
def test_an_unknown_axis_names_the_nearest(name, nearest):
    with pytest.raises(DataError, match=nearest):
        SCHEMA.axis(name)


def test_a_cohort_is_found_by_name_and_an_unknown_one_names_the_nearest():
    assert SCHEMA.axis("age").id_of("56+") == 2
    with pytest.raises(DataError, match=r"did you mean 18-24\?"):
        SCHEMA.axis("age").id_of("18-25")


def test_an_error_says_problem_place_and_remedy_and_pickles_whole():
    error = DataError("a label is 7", file="x.parquet", row_group=3, column="y", value=7, remedy="mend it")
    assert str(error) == "a label is 7 (file x.parquet, row group 3, column y, value 7). Remedy: mend it"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.where, copy.remedy) == (str(error), error.where, error.remedy)
    assert str(DataError("nothing", remedy="none")) == "nothing. Remedy: none"


def test_how_raw_rows_are_encoded_is_kept_and_where_nothing_is_to_be_said_not_written(tmp_path):
    hour = SparseColumn("when_hour", 25, source="when", part="hour", raw_type="timestamp[us]")
    tags = SparseColumn("tags", 5, multi=True, drop_unknown=True)
    replace(SCHEMA, sparse=(*SCHEMA.sparse, hour, tags)).save(str(tmp_path))
    assert Schema.load(str(tmp_path)).sparse[-2:] == (hour, tags)
    plain = yaml.safe_load((tmp_path / "schema.yaml").read_text())["sparse"][0]
    assert list(plain) == ["name", "num_rows", "multi", "vocabulary", "hashed"]


def test_older_files_say_in_their_notes_what_parts_of_times_are_of(tmp_path):
    notes = {"derived": {"when_hour": {"column": "when", "part": "hour"}}}
    replace(SCHEMA, sparse=(SparseColumn("when_hour", 25),), notes=notes).save(str(tmp_path))
    (column,) = Schema.load(str(tmp_path)).sparse
    assert (column.raw, column.part) == ("when", "hour")
    assert SparseColumn("user", 3).raw == "user"


def test_a_crossed_axis_whose_name_says_two_pairs_is_refused():
    axes = tuple(CohortAxis(name, ("1", "2")) for name in ("a", "b_x_c", "a_x_b", "c", "d"))
    schema = Schema("s", "label", (), axes=axes)
    assert schema.axis("a_x_b").kind == "category"
    assert schema.axis("a_x_d").crosses == ("a", "d")
    with pytest.raises(DataError, match="a and b_x_c or a_x_b and c"):
        schema.axis("a_x_b_x_c")


@pytest.mark.parametrize(
    ("column", "key", "value"),
    [
        *(("sparse", "num_rows", value) for value in (-1, 0, 2**60, "9", None, 1.5, True)),
        *(("sparse", "vocabulary", value) for value in ("/etc/passwd", "../x", "a/../../x", "http://x/y", 3, "a//b")),
        *(("sparse", "name", value) for value in (None, 3, "", [])),
        *(("dense", "std", value) for value in (0.0, -1, float("nan"), float("inf"), "1", None)),
        *(("dense", "mean", value) for value in (float("nan"), [], "a")),
        *(("axes", "cohorts", value) for value in ([1, 2], None, "ab")),
    ],
)
def test_a_value_that_cannot_be_is_one_line(tmp_path, column, key, value):
    Schema("x", "y", (SparseColumn("item", 9),), (DenseColumn("price"),), (CohortAxis("age", ("young", "old")),)).save(
        str(tmp_path)
    )
    raw = yaml.safe_load((tmp_path / "schema.yaml").read_text())
    raw[column][0][key] = value
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(DataError, match=r"schema\.yaml does not read") as raised:
        Schema.load(str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "3", "[1]", "a: [", "[" * 5000, "!!python/object/apply:os.system [x]"])
def test_a_schema_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "schema.yaml").write_text(text)
    with pytest.raises(DataError, match=r"schema\.yaml") as raised:
        Schema.load(str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "rows", ["http://127.0.0.1:9/x", "s3://b/x", "zip::x", "file://x::y", "5", "[a]", "null", "''"]
)
def test_a_view_opens_no_other_store(tmp_path, rows):
    (tmp_path / "schema.yaml").write_text(f"view_of: {rows}\nfingerprint: x\naxes: []\n")
    with pytest.raises(DataError, match="a view's rows"):
        Schema.load(str(tmp_path))


@pytest.mark.parametrize("place", ["s3://b/x", "zip::x", "foo://x", "a" * 5000, "a\0b", "ftp://127.0.0.1:9/x"])
def test_a_place_that_does_not_open_is_one_line(place):
    with pytest.raises(DataError):
        Schema.load(place)


def test_a_schema_that_unfolds_or_is_a_pipe(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (tmp_path / "schema.yaml").write_text("\n".join(lines))
    with pytest.raises(DataError, match="unfolds to"):
        Schema.load(str(tmp_path))
    (tmp_path / "schema.yaml").unlink()
    os.mkfifo(tmp_path / "schema.yaml")
    with pytest.raises(DataError, match="not a regular file"):
        Schema.load(str(tmp_path))


def test_an_error_moves_no_terminal():
    said = str(DataError("a\x1b[2J", file="b\udcff", value="c\nd\u202e" + "é" * 300, remedy="e"))
    assert said == "a\\x1b[2J (file b\\udcff, value c\\nd\\u202e" + "é" * 300 + "). Remedy: e"
