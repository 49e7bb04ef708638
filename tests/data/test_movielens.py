from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import movielens
from c2al.data.movielens import MAX_RECENT, earlier, prepare
from c2al.schema import SPLITS, Schema
from tests.data.movielens_folders import NUM_RATINGS, NUM_USERS, ml_1m, ml_100k, movie_genres, ratings


@pytest.fixture(scope="module", params=["ml-1m", "ml-100k"])
def prepared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("movielens")
    raw = (ml_1m if request.param == "ml-1m" else ml_100k)(folder / request.param)
    to = str(folder / "to")
    schema = prepare(folder=raw, to=to)
    return to, schema, pa.concat_tables([pq.read_table(f"{to}/{split}") for split in SPLITS]).to_pylist()


def expected_rows() -> list[tuple[int, int, int, int]]:
    return sorted((tuple(row) for row in ratings().tolist()), key=lambda row: (row[3], row[0], row[1]))


def decoder(to: str, schema: Schema, column: str) -> dict[int, str]:
    place = next(one.vocabulary for one in schema.sparse if one.name == column)
    stored = pq.read_table(f"{to}/{place}").to_pydict()
    return dict(zip(stored["id"], stored["value"], strict=True))


def test_the_folder_is_what_its_schema_says(prepared):
    to, schema, _ = prepared
    assert Schema.load(to) == schema
    assert [schema.splits[split].rows for split in SPLITS] == [480, 60, 60]
    assert schema.name in ("ml-1m", "ml-100k")
    assert schema.notes["ratings"] == np.bincount(ratings()[:, 2], minlength=6)[1:].tolist()
    assert [axis.name for axis in schema.axes] == ["age_group", "gender", "occupation", "activity"]


def test_rows_come_in_order_of_time_with_their_own_values(prepared):
    to, schema, rows = prepared
    decode = {column.name: decoder(to, schema, column.name) for column in schema.sparse}
    train = expected_rows()[:480]
    known = {"user": {row[0] for row in train}, "movie": {row[1] for row in train}}
    for row, (user, movie, rating, time) in zip(rows, expected_rows(), strict=True):
        assert row["label"] == (rating >= 4)
        assert decode["user"].get(row["user"]) == (str(user) if user in known["user"] else None)
        assert decode["movie"].get(row["movie"]) == (str(movie) if movie in known["movie"] else None)
        assert decode["gender"][row["gender"]] == "FM"[user % 2]
        assert schema.axis("gender").cohorts[row["cohort_gender"]] == "FM"[user % 2]
        assert {decode["genres"][i] for i in row["genres"]} == set(movie_genres(movie))
        moment = datetime.fromtimestamp(time, UTC)
        assert decode["hour"].get(row["hour"], str(moment.hour)) == str(moment.hour)
        assert decode["weekday"].get(row["weekday"], str(moment.weekday())) == str(moment.weekday())
        if schema.name == "ml-1m" or movie > 1:
            assert decode["decade"][row["decade"]] == f"{(1930 + 2 * movie) // 10}0s"
        else:
            assert row["decade"] == 0


def test_ages_become_one_set_of_groups(prepared):
    _, schema, rows = prepared
    names = schema.axis("age_group").cohorts
    groups = ["under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+"]
    assert list(names) == [group for group in groups if group in names]
    for row, (user, *_) in zip(rows, expected_rows(), strict=True):
        age = (1, 18, 25, 35, 45, 50, 56)[user % 7] if schema.name == "ml-1m" else 7 * user
        wanted = next(
            group for group, start in zip(reversed(groups), (56, 50, 45, 35, 25, 18, 0), strict=True) if age >= start
        )
        assert names[row["cohort_age_group"]] == wanted


def test_history_is_strictly_earlier(prepared):
    to, schema, rows = prepared
    decode = decoder(to, schema, "recent_liked")
    dense = {column.name: column for column in schema.dense}
    everything = expected_rows()
    liked_in_training = {decode[i] for i in decode}
    for row, (user, movie, _, time) in zip(rows, everything, strict=True):
        before = [one for one in everything if one[3] < time]
        of_user = [one for one in before if one[0] == user]
        of_movie = [one for one in before if one[1] == movie]
        counts = {
            "user_ratings": len(of_user),
            "user_likes": sum(one[2] >= 4 for one in of_user),
            "movie_ratings": len(of_movie),
            "movie_likes": sum(one[2] >= 4 for one in of_movie),
        }
        for name, count in counts.items():
            column = dense[name]
            assert row[name] == pytest.approx((np.log1p(count) - column.mean) / column.std, abs=1e-5)
        recent = [str(one[1]) for one in of_user if one[2] >= 4][-MAX_RECENT:]
        assert [decode.get(i) for i in row["recent_liked"]] == [m if m in liked_in_training else None for m in recent]


def test_activity_is_counted_in_the_training_part_alone(prepared):
    _, schema, rows = prepared
    axis = schema.axis("activity")
    counts = np.bincount([row[0] for row in expected_rows()[:480]], minlength=NUM_USERS + 1)
    for row, (user, *_) in zip(rows, expected_rows(), strict=True):
        assert row["cohort_activity"] == np.searchsorted(axis.edges, counts[user], side="left")


def test_users_without_a_training_rating_are_of_unknown_activity(tmp_path):
    late = "".join(f"{NUM_USERS}::{movie}::5::{2_000_000_000 + movie}\n" for movie in range(1, 9))
    early = "".join("::".join(map(str, row)) + "\n" for row in ratings().tolist() if row[0] != NUM_USERS)
    schema = prepare(folder=ml_1m(tmp_path / "raw", ratings=early + late), to=str(tmp_path / "to"))
    last = pq.read_table(tmp_path / "to" / "test").to_pylist()[-1]
    assert schema.axis("activity").cohorts[last["cohort_activity"]] == "unknown"
    assert last["user"] == 0
    assert len(last["recent_liked"]) == 7


def test_earlier_agrees_with_counting_by_hand():
    rng = np.random.default_rng(1)
    key, time, marked = rng.integers(0, 5, 300), rng.integers(0, 30, 300), rng.random(300) < 0.5
    counts, marks = earlier(key, time, marked)
    for i in range(300):
        before = (key == key[i]) & (time < time[i])
        assert (counts[i], marks[i]) == (before.sum(), (before & marked).sum())


def test_large_data_is_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "CHUNK", 100)
    seen = []
    prepare(
        folder=ml_1m(tmp_path / "raw"), to=str(tmp_path / "to"), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (NUM_RATINGS, NUM_RATINGS)
    assert len(seen) > 5
