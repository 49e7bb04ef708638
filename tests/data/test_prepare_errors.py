import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.schema import DataError
from tests.data.raw_rows import NUM, prepared, raw_rows, write


def with_column(name: str, values: list, kind: pa.DataType | None = None) -> pa.Table:
    table = raw_rows()
    full = pa.array((values * NUM)[: NUM - len(values)] + values, kind)
    return (
        table.set_column(table.column_names.index(name), name, full)
        if name in table.column_names
        else table.append_column(name, full)
    )


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (raw_rows().slice(0, 0), {}, "the files hold no rows"),
        (raw_rows(), {"label": "clickd"}, r"no such column .*column clickd.*did you mean clicked\?"),
        (raw_rows(), {"sparse": ["contry"]}, r"column contry.*did you mean country\?"),
        (raw_rows(), {"axes": ["countri"]}, r"did you mean country\?"),
        (raw_rows(), {"split_by": "wen"}, r"did you mean when\?"),
        (raw_rows(), {"unit": "usr_id"}, r"did you mean user_id\?"),
        (raw_rows(), {"sparse": ["movie"], "dense": ["movie"]}, "as sparse and as dense"),
        (raw_rows(), {"sparse": []}, "no sparse column"),
        (raw_rows(), {"dense": ["country"]}, r"must hold numbers .*column country, value string"),
        (raw_rows(), {"sparse": ["embedding", "nothing"]}, "no such column"),
        (raw_rows(), {"axes": ["tags"]}, "no cohort axis"),
        (raw_rows(), {"split_by": "tags"}, "cannot split by"),
        (raw_rows(), {"label": "country"}, r"the label is no number .*a\.parquet, column country"),
        (raw_rows(), {"hash_rows": 1}, "hash_rows"),
        (raw_rows(), {"min_count": 0}, "min_count"),
        (with_column("clicked", [0, 1, 2]), {}, r"a label in row \d+ \(file .*a\.parquet, column clicked, value 2\)"),
        (with_column("clicked", [0.0, 1.0, None]), {}, r"a label in row \d+ .*value null"),
        (with_column("clicked", [0]), {}, "all training labels are 0"),
        (with_column("w", [1.0, 0.0]), {"weight": "w"}, r"a weight in row \d+ .*column w, value 0\.0"),
        (with_column("w", [1.0, None]), {"weight": "w"}, "value null"),
        (with_column("w", [float("inf")]), {"weight": "w"}, "value inf"),
        (with_column("w", ["heavy"]), {"weight": "w"}, "the weight is no number"),
        (with_column("t", [None, 1, 2, 3]), {"split_by": "t"}, r"null in row \d+"),
        (with_column("part", ["train"]), {"split_by": "part"}, "no rows for validation, test"),
        (with_column("unit_movie", ["x", "y"]), {"unit": "movie"}, "two prepared columns would have one name"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_remedy_and_nothing_is_left(tmp_path, table, options, message):
    folder = write(tmp_path, table)
    with pytest.raises(DataError, match=message) as caught:
        prepared(folder, **options)
    assert "Remedy: " in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_a_label_that_one_file_lacks_is_named(tmp_path):
    folder = write(tmp_path, raw_rows())
    pq.write_table(raw_rows().drop_columns(["clicked"]), f"{folder}/c.parquet")
    with pytest.raises(DataError, match=r"the label is missing here \(file .*c\.parquet"):
        prepared(folder)
