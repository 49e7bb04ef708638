"""The planted world: users, items, effects, and rows drawn from them with the true probability of each label.

Each row shows one item to one user. With u the user's and w the item's latent vector, v the categories' and R the
user's recently seen categories, the row's affinity is

    a = z(<u, w>) + z(mean_{r in R} <v_r, v_category>)          z: centred and scaled over the rows
    P(label = 1) = sigmoid(bias + main(item, category, hour, recency) + STRENGTH · gain[segment] · a)

so the label hangs on second-order interactions, and the gain, which is what differs between the segments, on
third-order ones: given the main effects alone, segments differ by their mean and by nothing else. ``contrast`` moves
the gains from one common value (0: segments are exchangeable, and the axis says nothing) to ``GAINS`` (1): *loyal*
users want more of what they like and have just seen, *occasional* ones slightly the opposite. These two are the
planted pair. Region, device and activity never matter.

With ``history`` = L each row also has the last h of the user's items, 0 <= h <= L, oldest first, and a the term

    z(Σ_j 2^-j <w_j, w> / Σ_j 2^-j)        j = 0 for the latest item, 1 for the one before, …

so that the order of a history says what a bag of its items does not.
"""

from dataclasses import dataclass

import numpy as np

from c2al.cohorts import axes
from c2al.schema import CohortAxis

SEGMENTS = ("regular", "loyal", "bargain", "occasional", "new")
SHARES = (0.40, 0.25, 0.18, 0.12, 0.05)
GAINS = (1.0, 1.9, 1.1, -0.3, 0.9)  # at contrast 1; at contrast 0 all are 1
PAIR = {"axis": "segment", "head": "loyal", "tail": "occasional"}
REGIONS = ("north", "east", "south", "west", "islands", "centre")
DEVICES = ("phone", "desktop", "tablet")
DEVICE_SHARES = (0.6, 0.3, 0.1)

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
    history: int = 0  # items at most; 0: rows have no such column
    bias: float = 0.0
    taste: tuple[float, float] = (0.0, 1.0)  # mean and standard deviation of <u, w> over the rows
    recent: tuple[float, float] = (0.0, 1.0)
    items: tuple[float, float] = (0.0, 1.0)

    @property
    def gains(self) -> np.ndarray:
        """The interactions' strength per segment."""
        return 1 + self.contrast * (np.asarray(GAINS) - 1)


def make_world(*, seed: int, num_users: int, contrast: float, positive_rate: float, history: int = 0) -> World:
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
        history=history,
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
    if world.history:  # from a stream of their own: the other columns are what they are without
        own = np.random.default_rng([seed, 2, chunk])
        columns["num_items"] = own.integers(world.history + 1, size=CHUNK)
        columns["items"] = world.draw_item[own.integers(LOOKUP, size=(CHUNK, world.history))]
    probability = _sigmoid(world.bias + _logit(world, columns))
    columns["label"] = rng.random(CHUNK) < probability
    return columns, probability


def _logit(world: World, columns: dict[str, np.ndarray]) -> np.ndarray:
    (taste, taste_std), (recent, recent_std) = world.taste, world.recent
    by_taste, by_recent = _interactions(world, columns)
    affinity = (by_taste - taste) / taste_std
    affinity += np.where(columns["num_recent"] > 0, by_recent - recent, 0) / recent_std
    if world.history:
        (items, items_std), by_items = world.items, _latest_first(world, columns)
        affinity += np.where(columns["num_items"] > 0, by_items - items, 0) / items_std
    main = world.item["effect"][columns["item"]] + world.category["effect"][columns["category"]]
    main += world.hour_effect[columns["hour"]] - 0.15 * (np.log1p(columns["recency"]) - 1.7)
    return main + STRENGTH * world.gains[columns["segment"]] * affinity


def _interactions(world: World, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    user, item, num_recent = columns["user"], columns["item"], columns["num_recent"]
    by_taste = np.einsum("br,br->b", world.user["vector"][user], world.item["vector"][item])
    similarity = world.category["similarity"][columns["recent"], columns["category"][:, None]]
    similarity *= np.arange(MAX_RECENT) < num_recent[:, None]
    return by_taste, similarity.sum(axis=1) / num_recent.clip(min=1)


def _latest_first(world: World, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Each row's item against its history, the latest item counting double the one before; 0 for no history."""
    age = columns["num_items"][:, None] - 1 - np.arange(world.history)
    weight = np.where(age >= 0, 0.5**age, 0.0)
    vector = world.item["vector"]
    alike = np.einsum("blr,br->bl", vector[columns["items"]], vector[columns["item"]])
    return (weight * alike).sum(axis=1) / weight.sum(axis=1).clip(min=1)


def _calibrate(world: World, seed: int, positive_rate: float) -> None:
    """Standardise the interactions, then find the bias that gives the positive rate, by bisection."""
    columns, _ = draw(world, seed=seed, chunk=2**31)  # a chunk that no run reaches
    by_taste, by_recent = _interactions(world, columns)
    seen = by_recent[columns["num_recent"] > 0]
    world.taste, world.recent = (by_taste.mean(), by_taste.std()), (seen.mean(), seen.std())
    if world.history:
        by_items = _latest_first(world, columns)[columns["num_items"] > 0]
        world.items = by_items.mean(), by_items.std()
    logit, low, high = _logit(world, columns), -30.0, 30.0
    for _ in range(50):
        world.bias = (low + high) / 2
        if _sigmoid(world.bias + logit).mean() < positive_rate:
            low = world.bias
        else:
            high = world.bias


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def _lookup(shares: np.ndarray) -> np.ndarray:
    """A table in which value i fills its share of the cells: a draw is then one random integer."""
    return np.searchsorted(np.cumsum(shares)[:-1], (np.arange(LOOKUP) + 0.5) / LOOKUP)


def _z(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))
