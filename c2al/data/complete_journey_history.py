"""What was known about households and products before a week began: the history columns of The Complete Journey.

``History.advance(week)`` takes in all purchases of the weeks before ``week`` and none of later ones, the row's own week
included, so a column can say nothing of its row's label. Counts are numbers of baskets.
"""

import numpy as np

from c2al.data.complete_journey_exposures import Exposures, ranges
from c2al.data.complete_journey_package import Journey

RECENCY_EDGES = np.array([1, 2, 4, 8, 16])  # weeks since the last purchase, upper ends; id 0 is never, 6 is longer ago
RECENCY_NAMES = ("1 week", "2 weeks", "3-4 weeks", "5-8 weeks", "9-16 weeks", "17 weeks or more")
HISTORY_EDGES = np.array([0, 1, 2, 4, 8, 16, 28])  # weeks that history goes back; all of validation and test has more
HISTORY_NAMES = (
    "0 weeks",
    "1 week",
    "2 weeks",
    "3-4 weeks",
    "5-8 weeks",
    "9-16 weeks",
    "17-28 weeks",
    "29 weeks or more",
)
# Counts look back so many weeks and no further: sums since week 1 would be 2.5 times as great in test as in training.
PRODUCT_WINDOW, HOUSEHOLD_WINDOW = 8, 16
BAGS = {"recent_products": ("product", 20), "recent_categories": ("category", 10)}  # the last ones, at most so many
KINDS = ("product", "category", "manufacturer")
DENSE = (
    "household_spend",  # dollars a week
    "household_baskets",  # a week
    "household_basket_spend",  # dollars a basket
    "household_basket_products",
    "household_absence",  # weeks since the last visit
    "household_product_baskets",  # in the household's window, as the next two
    "household_category_baskets",
    "household_manufacturer_baskets",
    "product_baskets",  # in the product's window, all stores
    "product_store_baskets",  # the same, this store
    "product_response",  # purchases per thousand exposures, drawn towards the data's rate of about half a one
    "product_price",  # dollars a unit
    "promoted_products",  # in this store and week: what it competes with
)


class History:
    """State at the beginning of ``week``.

    ``codes`` number each product's category and manufacturer; ``bag_ids`` are each product's id in a bag, 0 to leave
    it out.
    """

    def __init__(self, journey: Journey, codes: dict[str, np.ndarray], bag_ids: dict[str, np.ndarray]) -> None:
        self.journey, self.bag_ids, self.week = journey, bag_ids, 1
        num_products = len(journey.product_ids)
        self.codes = {"product": np.arange(num_products), **{kind: codes[kind] for kind in KINDS[1:]}}
        self._starts = journey.first_of_week("purchases")
        self._basket_starts = journey.first_of_week("baskets")
        num_households = len(journey.household_ids)
        sizes = {kind: int(codes.max()) + 1 for kind, codes in self.codes.items()}
        self.last_week = {kind: np.zeros((num_households, size), np.int8) for kind, size in sizes.items()}
        self.num_baskets = {kind: np.zeros((num_households, size), np.uint16) for kind, size in sizes.items()}
        self.recent = {bag: np.zeros((num_households, length), np.int32) for bag, (_, length) in BAGS.items()}
        self.spend, self.visits, self.items, self.last_visit = np.zeros((4, num_households))
        self.sold, self.units, self.sales, self.responses, self.exposures = np.zeros((5, num_products))
        self.sold_in_store = np.zeros((len(journey.store_ids), num_products), np.uint16)

    def advance(self, week: int) -> None:
        """Move on to the beginning of a later week."""
        for past in range(self.week, week):
            self._take_in(past)
        self.week = week

    def columns(self, rows: Exposures) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Sparse ids by column, bags by column (ids [rows, length], 0 where there are fewer), dense values by column.

        Dense values are raw.
        """
        journey = self.journey
        household, store = journey.baskets["household"][rows.basket], journey.baskets["store"][rows.basket]
        product = journey.promotions["product"][rows.promotion]
        sparse, dense = {}, {}
        for kind in KINDS:
            code = self.codes[kind][product]
            last = self.last_week[kind][household, code]
            sparse[f"{kind}_recency"] = np.where(last, 1 + np.searchsorted(RECENCY_EDGES, rows.week - last), 0)
            dense[f"household_{kind}_baskets"] = self.num_baskets[kind][household, code]
        history_id = 1 + np.searchsorted(HISTORY_EDGES, rows.week - 1)  # "never bought" says more, the more is known
        sparse["history_weeks"] = np.full(len(rows.basket), history_id)
        bags = {bag: ids[household] for bag, ids in self.recent.items()}
        weeks, visits = max(rows.week - 1, 1), np.maximum(self.visits, 1)
        dense["household_spend"] = (self.spend / weeks)[household]
        dense["household_baskets"] = (self.visits / weeks)[household]
        dense["household_basket_spend"] = (self.spend / visits)[household]
        dense["household_basket_products"] = (self.items / visits)[household]
        dense["household_absence"] = (rows.week - self.last_visit)[household]
        dense["product_baskets"] = self.sold[product]
        dense["product_store_baskets"] = self.sold_in_store[store, product]
        dense["product_response"] = (1000 * (self.responses + 0.5) / (self.exposures + 1000))[product]
        dense["product_price"] = (self.sales / np.maximum(self.units, 1))[product]
        grid = journey.grid
        cell = np.searchsorted(grid["first_promotion"], rows.promotion, side="right") - 1
        dense["promoted_products"] = grid["num_promotions"][cell]
        return sparse, bags, {name: dense[name] for name in DENSE}

    def _take_in(self, week: int) -> None:
        purchases, baskets = self.journey.purchases, self.journey.baskets
        bought = slice(self._starts[week], self._starts[week + 1])
        basket, product = purchases["basket"][bought], purchases["product"][bought]
        household, num_products = baskets["household"][basket], len(self.journey.product_ids)
        for kind in KINDS:
            self._count(kind, week, +1)
            self._count(kind, week - HOUSEHOLD_WINDOW, -1)
            self.last_week[kind][household, self.codes[kind][product]] = week
        for bag in BAGS:
            self._remember(bag, household, self.bag_ids[bag][product], baskets["seconds"][basket])
        visitors = baskets["household"][self._basket_starts[week] : self._basket_starts[week + 1]]
        self.visits += np.bincount(visitors, minlength=len(self.visits))
        self.last_visit[visitors] = week
        self.items += np.bincount(household, minlength=len(self.items))
        self.spend += np.bincount(household, purchases["sales"][bought], minlength=len(self.spend))
        self.units += np.bincount(product, purchases["quantity"][bought], minlength=num_products)
        self.sales += np.bincount(product, purchases["sales"][bought], minlength=num_products)
        self.responses += np.bincount(product[purchases["promotion"][bought] >= 0], minlength=num_products)
        self._count_sold(week, +1)
        self._count_sold(week - PRODUCT_WINDOW, -1)
        self._count_exposures(week)

    def _count(self, kind: str, week: int, sign: int) -> None:
        """Add or take away a week's baskets; a category counts once, however many of its products a basket holds."""
        if week < 1:
            return
        purchases, count = self.journey.purchases, self.num_baskets[kind].reshape(-1)
        num_codes = self.num_baskets[kind].shape[1]
        bought = slice(self._starts[week], self._starts[week + 1])
        key = np.unique(
            purchases["basket"][bought] * np.int64(num_codes) + self.codes[kind][purchases["product"][bought]]
        )
        household = self.journey.baskets["household"][key // num_codes]
        place, more = np.unique(household * np.int64(num_codes) + key % num_codes, return_counts=True)
        count[place] = count[place] + sign * more

    def _remember(self, bag: str, household: np.ndarray, new_ids: np.ndarray, seconds: np.ndarray) -> None:
        """Put the week's purchases before the earlier ones, the latest first, each once; cut to the bag's length."""
        owners, old, (_, length) = np.unique(household), self.recent[bag], BAGS[bag]
        ids = np.concatenate([new_ids, old[owners].reshape(-1)])
        owner = np.concatenate([household, np.repeat(owners, length)])
        # Age: 0 for the latest purchase; what was remembered already is older than the whole week, in its order.
        age = np.concatenate([seconds.max(initial=0) - seconds, 10**9 + np.tile(np.arange(length), len(owners))])
        order = np.lexsort((ids, age, owner))
        order = order[ids[order] > 0]
        _, first = np.unique(
            owner[order].astype(np.int64) * (int(ids.max(initial=0)) + 1) + ids[order], return_index=True
        )
        order = order[np.sort(first)]
        rank = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
        kept = order[rank < length]
        old[owners] = 0
        old[owner[kept], rank[rank < length]] = ids[kept]

    def _count_sold(self, week: int, sign: int) -> None:
        if week < 1:
            return
        bought = slice(self._starts[week], self._starts[week + 1])
        product = self.journey.purchases["product"][bought]
        store = self.journey.baskets["store"][self.journey.purchases["basket"][bought]]
        self.sold += sign * np.bincount(product, minlength=len(self.sold))
        place, more = np.unique(store.astype(np.int64) * len(self.sold) + product, return_counts=True)
        flat = self.sold_in_store.reshape(-1)
        flat[place] = flat[place] + sign * more

    def _count_exposures(self, week: int) -> None:
        grid = {name: values[self.journey.grid["week"] == week] for name, values in self.journey.grid.items()}
        product = self.journey.promotions["product"][ranges(grid["first_promotion"], grid["num_promotions"])]
        num_baskets = np.repeat(grid["num_baskets"], grid["num_promotions"])
        self.exposures += np.bincount(product, num_baskets, minlength=len(self.exposures))
