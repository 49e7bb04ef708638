"""MovieLens ratings to rows: label rating ≥ 4, split by time, features of what was known before each rating.

A rating of the same second counts as not yet known, whatever the file's order. The first 80 % of the ratings in time
train, the next 10 % validate, the last 10 % test; many test users are new, as in production.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from c2al.cohorts import axes
from c2al.data.movielens_files import MovieLens, read_movielens
from c2al.data.prepared_folder import prepared_folder
from c2al.data.raw_values import texts_of
from c2al.data.vocabulary import Vocabulary
from c2al.data.writer import write_splits
from c2al.schema import SPLITS, CohortAxis, DataError, DenseColumn, Schema, SparseColumn

LIKED = 4
MAX_RECENT = 10
MIN_RATINGS = 30
CHUNK = 131_072

Bag = tuple[np.ndarray, np.ndarray]  # flat values, and how many each row has


def prepare(
    *, folder: str, to: str, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
) -> Schema:
    """Write a prepared folder from the raw folder ml-1m or ml-100k, as it was unpacked (any fsspec path).

    ``progress(done, all)`` counts ratings. Cohort axes: age group, gender, occupation, and activity, the user's number
    of ratings in the training part, cut by rows ("unknown": no rating there).
    """
    with prepared_folder(to, overwrite=overwrite) as partial:
        data = read_movielens(folder)
        if len(data.rating) < MIN_RATINGS:
            raise DataError(
                "too few ratings to split", file=folder, value=len(data.rating), remedy="give the whole data"
            )
        rows = Rows(data)
        sparse, sparse_arrays = _encode_sparse(rows, partial)
        dense, dense_arrays = _encode_dense(rows)
        stored, cohort_arrays = _encode_axes(rows)
        unit = np.unique(rows.user, return_inverse=True)[1].astype(np.int32)
        label = rows.liked.astype(np.int8)
        table = pa.table({**sparse_arrays, **dense_arrays, **cohort_arrays, "unit": unit, "label": label})
        splits = write_splits(partial, _parts(table, rows.cuts, progress), label="label", weight=None)
        schema = Schema(data.name, "label", sparse, dense, stored, unit="unit", splits=splits)
        schema.notes.update(source=folder, ratings=np.bincount(data.rating, minlength=6)[1:].tolist())
        schema.save(partial)
    return schema


class Rows:
    """The ratings in order of time, with all that is known of each."""

    def __init__(self, data: MovieLens) -> None:
        order = np.lexsort((data.movie, data.user, data.time))
        self.user, self.movie, self.time = data.user[order], data.movie[order], data.time[order]
        self.liked = data.rating[order] >= LIKED
        num = len(order)
        self.cuts = (0, num * 8 // 10, num * 9 // 10, num)
        self.data = data
        self.user_ratings, self.user_likes = earlier(self.user, self.time, self.liked)
        self.movie_ratings, self.movie_likes = earlier(self.movie, self.time, self.liked)

    @property
    def train(self) -> slice:
        """The training rows."""
        return slice(0, self.cuts[1])

    def single(self) -> dict[str, np.ndarray]:
        """Single-valued sparse columns, as text or integers."""
        seconds = self.time.astype("datetime64[s]")
        days = seconds.astype("datetime64[D]").astype(np.int64)
        return {
            "user": self.user,
            "movie": self.movie,
            **{name: self._attribute("user", name) for name in ("gender", "age_group", "occupation", "zip_prefix")},
            "decade": self._attribute("movie", "decade"),
            "hour": self.time // 3600 % 24,
            "weekday": (days + 3) % 7,  # 0 Monday; 1970-01-01 was a Thursday
        }

    def bags(self) -> dict[str, Bag]:
        """Multi-valued sparse columns."""
        movies, place = np.unique(self.movie, return_inverse=True)
        genres = pa.array([self.data.movies[movie].genres for movie in movies.tolist()], pa.list_(pa.string()))
        of_rows = genres.take(pa.array(place))
        flat, lengths = of_rows.flatten().to_numpy(zero_copy_only=False), of_rows.value_lengths().to_numpy()
        recent = recent_liked(self.user, self.time, self.movie, self.liked, self.user_likes)
        return {"genres": (flat, lengths), "recent_liked": recent}

    def _attribute(self, key: str, name: str) -> np.ndarray:
        """An attribute of each row's user or movie."""
        ids, place = np.unique(getattr(self, key), return_inverse=True)
        known = self.data.users if key == "user" else self.data.movies
        return np.array([getattr(known[i], name) for i in ids.tolist()])[place]

    def activity(self) -> np.ndarray:
        """Each row's user's number of ratings in the training part; NaN for none."""
        users, counts = np.unique(self.user[self.train], return_counts=True)
        place = np.searchsorted(users, self.user).clip(max=len(users) - 1)
        return np.where(users[place] == self.user, counts[place].astype(np.float64), np.nan)


def earlier(key: np.ndarray, time: np.ndarray, marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many rows of the same key have a strictly earlier time, and how many of these are marked."""
    order = np.lexsort((time, key))
    key, time = key[order], time[order]
    place = np.arange(len(key))
    new_key = np.r_[True, key[1:] != key[:-1]]
    new_time = new_key | np.r_[True, time[1:] != time[:-1]]
    key_start = np.maximum.accumulate(np.where(new_key, place, 0))
    tie_start = np.maximum.accumulate(np.where(new_time, place, 0))
    marks = np.r_[0, np.cumsum(marked[order])]
    counts = np.empty((2, len(key)), dtype=np.int64)
    counts[:, order] = tie_start - key_start, marks[tie_start] - marks[key_start]
    return counts[0], counts[1]


def recent_liked(
    user: np.ndarray, time: np.ndarray, movie: np.ndarray, liked: np.ndarray, num_liked: np.ndarray
) -> Bag:
    """The user's last ``MAX_RECENT`` liked movies before each row, oldest first; ``num_liked`` says how many came."""
    order = np.lexsort((time, user))
    likes = order[liked[order]]
    first = np.searchsorted(user[likes], user)  # where the user's likes begin
    lengths = np.minimum(num_liked, MAX_RECENT)
    starts = first + num_liked - lengths
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return movie[likes[np.repeat(starts, lengths) + within]], lengths


def _encode_sparse(rows: Rows, folder: str) -> tuple[tuple[SparseColumn, ...], dict[str, pa.Array]]:
    columns, arrays = [], {}
    for name, values in rows.single().items():
        vocabulary, texts = Vocabulary(name, hash_rows=None), texts_of(pa.array(values))
        vocabulary.count(texts[rows.train])
        vocabulary.finish()
        columns.append(vocabulary.save(folder))
        arrays[name] = pa.array(vocabulary.encode(texts))
    for name, (flat, lengths) in rows.bags().items():
        vocabulary, texts = Vocabulary(name, multi=True, hash_rows=None), texts_of(pa.array(flat))
        vocabulary.count(texts[: int(lengths[rows.train].sum())])
        vocabulary.finish()
        columns.append(vocabulary.save(folder))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        arrays[name] = pa.ListArray.from_arrays(offsets, pa.array(vocabulary.encode(texts)))
    return tuple(columns), arrays


def _encode_dense(rows: Rows) -> tuple[tuple[DenseColumn, ...], dict[str, pa.Array]]:
    columns, arrays = [], {}
    for name in ("user_ratings", "user_likes", "movie_ratings", "movie_likes"):
        logged = np.log1p(getattr(rows, name))
        mean, std = float(logged[rows.train].mean()), float(logged[rows.train].std()) or 1.0
        columns.append(DenseColumn(name, "log1p", mean=mean, std=std))
        arrays[name] = pa.array(((logged - mean) / std).astype(np.float32))
    return tuple(columns), arrays


def _encode_axes(rows: Rows) -> tuple[tuple[CohortAxis, ...], dict[str, pa.Array]]:
    found, single, activity = [], rows.single(), rows.activity()
    for name in ("age_group", "gender", "occupation"):
        found.append(axes.category(single[name], name=name, max_cohorts=32))
    found.append(axes.quantile(activity, name="activity", reference=activity[rows.train]))
    return tuple(axis for _, axis in found), {axis.column: pa.array(ids) for ids, axis in found}


def _parts(
    table: pa.Table, cuts: tuple[int, ...], progress: Callable[[int, int], None] | None
) -> Iterator[tuple[str, pa.Table]]:
    for split, first, last in zip(SPLITS, cuts[:-1], cuts[1:], strict=True):
        for start in range(first, last, CHUNK):
            end = min(start + CHUNK, last)
            yield split, table.slice(start, end - start)
            if progress:
                progress(end, table.num_rows)
