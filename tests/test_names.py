import itertools

import pytest

from c2al.names import file_names, table_name

ODD = [
    *("a.b", "a__b", "a%2Eb", "a%252Eb", "a%b", "a%.b", "a..b", "a._b", "a%25b", "a%2", "a%2.", "%", ".", "..", ""),
    *("c/d", "c_d", "c\\d", "c:d", "../../etc", "~", "con", " ", "a b", "a\tb", "a\0b", "a\nb", "ä", "a\u0308"),
    *("x" * 300, "x" * 301, "User", "user", "USER", "vocabularies/x", "table_x", "x.parquet", "x" * 100),
]


def test_different_columns_have_different_tables_of_names_that_modules_may_have():
    names = [table_name(column) for column in ODD]
    assert len(set(names)) == len(ODD)
    assert not any("." in name for name in names)


def test_short_names_of_all_signs_have_different_tables():
    columns = ["".join(signs) for num in range(6) for signs in itertools.product("%2E5.", repeat=num)]
    assert len({table_name(column) for column in columns}) == len(columns)


def test_an_ordinary_column_has_the_table_that_older_checkpoints_have():
    assert [table_name(column) for column in ("type", "user_id", "c/d", "100%")] == [
        "table_type",
        "table_user_id",
        "table_c/d",
        "table_100%",
    ]


def test_different_columns_have_different_files_on_any_disk():
    files = file_names(ODD)
    assert len({name.lower() for name in files.values()}) == len(ODD)
    for name in files.values():
        assert 0 < len(name) < 120
        assert name.isascii()
        assert name.isprintable()
        assert not set(name) & set('/\\:*?"<>| ')
        assert not name.startswith(".") or len(name) > 20


@pytest.mark.parametrize("column", ["user", "userId", "C1", "c_d", "a-b", "_x"])
def test_a_plain_column_has_its_own_file(column):
    assert file_names([column, "other"])[column] == column


def test_a_file_does_not_depend_on_the_order_of_the_columns():
    assert file_names(ODD) == file_names(ODD[::-1])
