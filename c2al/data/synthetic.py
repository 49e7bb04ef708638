"""Planted truth: cohorts whose interactions are known to differ, or, with ``contrast=0``, known not to.

Each row shows one item to one user. With u the user's and w the item's latent vector, v the categories' and R the
user's recently seen categories, the row's affinity is

    a = z(<u, w>) + z(mean_{r in R} <v_r, v_category>)          z: centred and scaled over the rows
    P(label = 1) = sigmoid(bias + main(item, category, hour, price, recency) + gain[segment] · a)

so the label hangs on second-order interactions, and the gain, which is what differs between the segments, on
third-order ones: given the main effects alone, segments differ by their mean and by nothing else. ``contrast`` moves
the gains from one common value (0: segments are exchangeable, and the axis says nothing) to ``GAINS`` (1): *loyal*
users want more of what they like and have just seen, *occasional* ones slightly the opposite. These two are the
planted pair. Region, device and activity never matter.

Rows come in chunks drawn from (seed, chunk) alone, so memory is constant, and fewer rows are a prefix of more.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from c2al.cohorts import axes
from c2al.data.writer import prepared_folder, write_splits
from c2al.schema import SPLITS, CohortAxis, DataError, DenseColumn, Schema, SparseColumn

SEGMENTS = ("regular", "loyal", "bargain", "occasional", "new")
SHARES = (0.40, 0.25, 0.18, 0.12, 0.05)
GAINS = (1.0, 1.9, 1.1, -0.3, 0.9)  # at contrast 1; at contrast 0 all are 1
PAIR = {"axis": "segment", "head": "loyal", "tail": "occasional"}
REGIONS = ("north", "east", "south", "west", "islands", "centre")
DEVICES = ("phone", "desktop", "tablet")
DEVICE_SHARES = (0.6, 0.3, 0.1)
DENSE = (  # constants of the generator, so that no pass over the rows is needed
    DenseColumn("price", "log1p", mean=2.35, std=0.74),
    DenseColumn("recency", "log1p", mean=1.72, std=0.86),
    DenseColumn("activity", "log1p", mean=1.15, std=0.52),
)

CHUNK = 65_536
RANK = 4
NUM_ITEMS, NUM_CATEGORIES, NUM_BRANDS, NUM_TASTES, MAX_RECENT = 2_000, 24, 100, 16, 8
STRENGTH = 0.6  # of each of the two interactions, in logits per standard deviation
LOOKUP = 65_536  # cells of the tables that turn a random integer into a draw


@dataclass
class World:
    """All that is fixed before the first row: users, items, effects."""

    contrast: float
    user: dict[str, np.ndarray]
    item: dict[str, np.ndarray]
    category: dict[str, np.ndarray]
    hour_effect: np.ndarray
    draw_user: np.ndarray  # cumulative share of the rows
    draw_item: np.ndarray  # [LOOKUP] item numbers
    draw_recent: np.ndarray  # [NUM_TASTES, LOOKUP] categories
    activity: CohortAxis
    bias: float = 0.0
    taste: tuple[float, float] = (0.0, 1.0)  # mean and standard deviation of <u, w> over the rows
    recent: tuple[float, float] = (0.0, 1.0)

    @property
    def gains(self) -> np.ndarray:
        """The interactions' strength per segment."""
        return 1 + self.contrast * (np.asarray(GAINS) - 1)


def prepare(
    *,
    to: str,
    rows: int = 400_000,
    contrast: float = 1.0,
    seed: int = 0,
    num_users: int = 20_000,
    positive_rate: float = 0.1,
    overwrite: bool = False,
) -> Schema:
    """Write a prepared folder of ``rows`` rows: the first 80 % train, then 10 % validation, 10 % test.

    ``notes["planted_pair"]`` names the axis, the head (the higher mean prediction) and the tail;
    ``notes["bayes_ne"][split]`` is ``{"overall": …, "cohorts": {axis: {cohort: …}}}``, the normalized entropy that the
    true probabilities reach on these very rows, which no model beats but by luck; ``notes["bayes_log_loss"]`` likewise.
    """
    _check(rows=rows, contrast=contrast, num_users=num_users, positive_rate=positive_rate)
    world = make_world(seed=seed, num_users=num_users, contrast=contrast, positive_rate=positive_rate)
    schema = _schema(world)
    bayes = {split: _Bayes() for split in SPLITS}
    with prepared_folder(to, overwrite=overwrite) as folder:
        stream = _splits(world, rows=rows, seed=seed, bayes=bayes)
        schema.splits.update(write_splits(folder, stream, label="label", weight=None))
        schema.notes.update(
            planted_pair={**PAIR},
            contrast=float(contrast),
            seed=seed,
            bayes_ne={split: bayes[split].report("ne") for split in SPLITS},
            bayes_log_loss={split: bayes[split].report("log_loss") for split in SPLITS},
        )
        schema.save(folder)
    return schema


def make_world(*, seed: int, num_users: int, contrast: float, positive_rate: float) -> World:
    """Draw users, items and effects; scale the interactions and set the bias on a sample of one chunk."""
    rng = np.random.default_rng([seed, 0])
    popularity = _shares(1 / np.arange(1, NUM_CATEGORIES + 1) ** 0.5)
    vector = rng.normal(size=(NUM_CATEGORIES, RANK))
    vector -= popularity @ vector  # centred over exposures: an interaction has no main effect
    item_category = _lookup(popularity)[rng.integers(LOOKUP, size=NUM_ITEMS)]
    brand = rng.integers(NUM_BRANDS, size=NUM_ITEMS)
    item_share = _shares((popularity / np.bincount(item_category, minlength=NUM_CATEGORIES).clip(1))[item_category])
    item_share = _shares(item_share * rng.lognormal(sigma=0.7, size=NUM_ITEMS))
    item_vector = vector[item_category] + 0.6 * rng.normal(size=(NUM_BRANDS, RANK))[brand]
    price = rng.lognormal(sigma=0.8, size=NUM_ITEMS) * 10
    taste_vector = rng.normal(size=(NUM_TASTES, RANK))
    taste = rng.integers(NUM_TASTES, size=num_users)
    activity = rng.lognormal(sigma=0.8, size=num_users)
    item_vector -= item_share @ item_vector
    user_vector = taste_vector[taste] + 0.3 * rng.normal(size=(num_users, RANK))
    # Every user's <u, w> varies alike over the items: a user's mean prediction then says little about the user, and
    # cohorts of few users, such as the most active ones, do not differ by chance.
    spread = np.sqrt(np.einsum("ur,rs,us->u", user_vector, (item_vector.T * item_share) @ item_vector, user_vector))
    world = World(
        contrast=contrast,
        user={
            "segment": rng.choice(len(SEGMENTS), p=SHARES, size=num_users),
            "region": rng.integers(len(REGIONS), size=num_users),
            "taste": taste,
            "age_band": rng.integers(7, size=num_users),
            "activity": activity,
            "vector": user_vector / spread[:, None],
        },
        item={
            "category": item_category,
            "brand": brand,
            "price": price,
            "price_band": np.searchsorted(np.quantile(price, np.arange(1, 8) / 8), price),
            "vector": item_vector,
            "effect": 0.25 * rng.normal(size=NUM_ITEMS) - 0.2 * _z(np.log(price)),
        },
        category={"effect": 0.3 * rng.normal(size=NUM_CATEGORIES), "similarity": vector @ vector.T},
        hour_effect=0.2 * np.sin(np.arange(24) * 2 * np.pi / 24),
        draw_user=np.cumsum(_shares(activity)),
        draw_item=_lookup(item_share),
        draw_recent=np.stack([_lookup(_shares(popularity * np.exp(0.5 * vector @ t))) for t in taste_vector]),
        activity=axes.quantile(activity, name="activity", weights=activity)[1],
    )
    _calibrate(world, seed, positive_rate)
    return world


def draw(world: World, *, seed: int, chunk: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns of one chunk of ``CHUNK`` rows, numbered from 0, and the true probability of each row's label."""
    rng = np.random.default_rng([seed, 1, chunk])
    user = np.searchsorted(world.draw_user, rng.random(CHUNK)).clip(max=len(world.draw_user) - 1)
    item = world.draw_item[rng.integers(LOOKUP, size=CHUNK)]
    taste = world.user["taste"][user]
    columns = {
        "user": user,
        "item": item,
        **{name: world.item[name][item] for name in ("category", "brand", "price_band", "price")},
        **{name: world.user[name][user] for name in ("segment", "region", "age_band", "activity")},
        "taste": taste,
        "device": np.searchsorted(np.cumsum(DEVICE_SHARES)[:-1], rng.random(CHUNK)),
        "hour": rng.integers(24, size=CHUNK),
        "recency": rng.exponential(scale=7.0, size=CHUNK),
        "num_recent": rng.integers(MAX_RECENT + 1, size=CHUNK),
        "recent": world.draw_recent[taste[:, None], rng.integers(LOOKUP, size=(CHUNK, MAX_RECENT))],
    }
    probability = _sigmoid(world.bias + _logit(world, columns))
    columns["label"] = rng.random(CHUNK) < probability
    return columns, probability


def _logit(world: World, columns: dict[str, np.ndarray]) -> np.ndarray:
    (taste, taste_std), (recent, recent_std) = world.taste, world.recent
    by_taste, by_recent = _interactions(world, columns)
    affinity = (by_taste - taste) / taste_std
    affinity += np.where(columns["num_recent"] > 0, by_recent - recent, 0) / recent_std
    main = world.item["effect"][columns["item"]] + world.category["effect"][columns["category"]]
    main += world.hour_effect[columns["hour"]] - 0.15 * (np.log1p(columns["recency"]) - 1.7)
    return main + STRENGTH * world.gains[columns["segment"]] * affinity


def _interactions(world: World, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    user, item, num_recent = columns["user"], columns["item"], columns["num_recent"]
    by_taste = np.einsum("br,br->b", world.user["vector"][user], world.item["vector"][item])
    similarity = world.category["similarity"][columns["recent"], columns["category"][:, None]]
    similarity *= np.arange(MAX_RECENT) < num_recent[:, None]
    return by_taste, similarity.sum(axis=1) / num_recent.clip(min=1)


def _calibrate(world: World, seed: int, positive_rate: float) -> None:
    """Standardise both interactions, then find the bias that gives the positive rate, by bisection."""
    columns, _ = draw(world, seed=seed, chunk=2**31)  # a chunk that no run reaches
    by_taste, by_recent = _interactions(world, columns)
    seen = by_recent[columns["num_recent"] > 0]
    world.taste, world.recent = (by_taste.mean(), by_taste.std()), (seen.mean(), seen.std())
    logit, low, high = _logit(world, columns), -30.0, 30.0
    for _ in range(50):
        world.bias = (low + high) / 2
        if _sigmoid(world.bias + logit).mean() < positive_rate:
            low = world.bias
        else:
            high = world.bias


def _splits(world: World, *, rows: int, seed: int, bayes: dict[str, "_Bayes"]) -> Iterator[tuple[str, pa.Table]]:
    cuts = (0, rows * 8 // 10, rows * 9 // 10, rows)
    for chunk, start in enumerate(range(0, rows, CHUNK)):
        columns, probability = draw(world, seed=seed, chunk=chunk)
        table = _table(world, columns)
        for split, first, last in zip(SPLITS, cuts[:-1], cuts[1:], strict=True):
            part = slice(min(max(first - start, 0), CHUNK), min(max(last - start, 0), CHUNK))
            bayes[split].update(probability[part], columns["label"][part], columns["segment"][part])
            yield split, table.slice(part.start, part.stop - part.start)


def _table(world: World, columns: dict[str, np.ndarray]) -> pa.Table:
    out = {column.name: columns[column.name].astype(np.int32) + 1 for column in _sparse(world) if not column.multi}
    table = pa.table(out)
    num_recent = columns["num_recent"]
    kept = columns["recent"][np.arange(MAX_RECENT) < num_recent[:, None]]
    offsets = np.concatenate([[0], np.cumsum(num_recent)]).astype(np.int32)
    table = table.append_column("recent_categories", pa.ListArray.from_arrays(offsets, kept.astype(np.int32) + 1))
    for dense in DENSE:
        values = (np.log1p(columns[dense.name]) - dense.mean) / dense.std
        table = table.append_column(dense.name, pa.array(values.astype(np.float32)))
    for name in ("segment", "region", "device"):
        table = table.append_column(f"cohort_{name}", pa.array(columns[name].astype(np.int16)))
    table = table.append_column("cohort_activity", pa.array(axes.apply(world.activity, columns["activity"])))
    table = table.append_column("unit", pa.array(columns["user"].astype(np.int32)))
    return table.append_column("label", pa.array(columns["label"].astype(np.int8)))


def _sparse(world: World) -> tuple[SparseColumn, ...]:
    num_values = {
        "user": len(world.draw_user),
        "item": NUM_ITEMS,
        "category": NUM_CATEGORIES,
        "brand": NUM_BRANDS,
        "price_band": 8,
        "taste": NUM_TASTES,
        "segment": len(SEGMENTS),
        "region": len(REGIONS),
        "age_band": 7,
        "device": len(DEVICES),
        "hour": 24,
    }
    single = tuple(SparseColumn(name, num + 1) for name, num in num_values.items())  # id 0: missing
    return (*single, SparseColumn("recent_categories", NUM_CATEGORIES + 1, multi=True))


def _schema(world: World) -> Schema:
    named = {"segment": SEGMENTS, "region": REGIONS, "device": DEVICES}
    stored = tuple(CohortAxis(name, cohorts) for name, cohorts in named.items())
    return Schema(
        name="synthetic",
        label="label",
        sparse=_sparse(world),
        dense=DENSE,
        axes=(*stored, world.activity),
        unit="unit",
    )


class _Bayes:
    """Log loss of the true probabilities on the labels that were drawn, overall and per segment."""

    def __init__(self) -> None:
        self.rows, self.positives, self.loss = (np.zeros(len(SEGMENTS)) for _ in range(3))

    def update(self, probability: np.ndarray, label: np.ndarray, segment: np.ndarray) -> None:
        loss = -np.log(np.where(label, probability, 1 - probability))
        for total, weights in ((self.rows, None), (self.positives, label), (self.loss, loss)):
            total += np.bincount(segment, weights, minlength=len(SEGMENTS))

    def report(self, measure: str) -> dict:
        cohorts = zip(SEGMENTS, *(x.tolist() for x in (self.rows, self.positives, self.loss)), strict=True)
        return {
            "overall": _measure(measure, self.rows.sum(), self.positives.sum(), self.loss.sum()),
            "cohorts": {"segment": {name: _measure(measure, *sums) for name, *sums in cohorts}},
        }


def _measure(measure: str, rows: float, positives: float, loss: float) -> float | None:
    """Mean log loss, or that over the entropy of the mean label; None where undefined."""
    if not rows or (measure == "ne" and not 0 < positives < rows):
        return None
    rate = positives / rows
    scale = 1.0 if measure == "log_loss" else -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    return float(loss / rows / scale)


def _check(*, rows: int, contrast: float, num_users: int, positive_rate: float) -> None:
    for name, value, low, high in (
        ("rows", rows, 10, float("inf")),
        ("contrast", contrast, 0, 1),
        ("num_users", num_users, 1, 2**31 - 2),
        ("positive_rate", positive_rate, 0.0001, 0.5),
    ):
        if not low <= value <= high:
            remedy = f"choose {name} from {low:g} to {high:g}"
            raise DataError(f"synthetic data needs another {name}", value=value, remedy=remedy)


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def _lookup(shares: np.ndarray) -> np.ndarray:
    """A table in which value i fills its share of the cells: a draw is then one random integer."""
    return np.searchsorted(np.cumsum(shares)[:-1], (np.arange(LOOKUP) + 0.5) / LOOKUP)


def _z(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))
