"""History knows what was bought before a week, and no more; its values are tested with the whole."""

from pathlib import Path

import numpy as np
import pytest

from c2al.data.complete_journey_columns import make_columns
from c2al.data.complete_journey_exposures import exposures
from c2al.data.complete_journey_history import History
from c2al.data.complete_journey_package import package_data, read_journey
from tests.data.fake_journey import fake_package, fake_tables, write_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return fake_package(tmp_path, monkeypatch)


def test_bags_keep_the_latest(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for three, the bag holds no product bought before one that it leaves out."""
    bags = {"recent_products": ("product", 3)}
    monkeypatch.setattr("c2al.data.complete_journey_history.BAGS", bags)
    journey = read_journey(package_data(package))
    columns = make_columns(journey)
    history = History(journey, columns.codes, columns.bag_ids)
    history.advance(54)
    basket = journey.purchases["basket"]
    for household in range(len(journey.household_ids)):
        last: dict[int, int] = {}
        mine = journey.baskets["household"][basket] == household
        for place, product in zip(basket[mine], journey.purchases["product"][mine], strict=True):
            bag_id = int(columns.bag_ids["recent_products"][product])
            last[bag_id] = max(last.get(bag_id, 0), int(journey.baskets["seconds"][place]))
        bag = [i for i in history.recent["recent_products"][household].tolist() if i]
        assert len(bag) == min(3, len(last))
        times = [last[i] for i in bag]
        assert times == sorted(times, reverse=True)
        assert min(times) >= max((time for i, time in last.items() if i not in bag), default=0)


def test_history_inside_training_does_not_see_its_week(package: str, tmp_path: Path) -> None:
    other = write_package(fake_tables(changed_from=20), tmp_path / "other")
    journeys = [read_journey(package_data(str(folder))) for folder in (package, other)]
    columns = make_columns(journeys[0])
    found = []
    for journey in journeys:
        rows = next(rows for rows in exposures(journey, keep_negatives=1, seed=0) if rows.week == 20)
        history = History(journey, columns.codes, columns.bag_ids)
        history.advance(20)
        found.append(history.columns(rows))
    for kind_a, kind_b in zip(*found, strict=True):
        for name in kind_a:
            np.testing.assert_array_equal(kind_a[name], kind_b[name], err_msg=name)
