from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import movielens, movielens_files
from c2al.data.movielens import MAX_RECENT, earlier, prepare
from c2al.schema import SPLITS, DataError, Schema

NUM_RATINGS, NUM_USERS, NUM_MOVIES = 600, 12, 40
GENRES = ("Comedy", "Drama", "Sci-Fi")


def ratings() -> np.ndarray:
    """User, movie, rating, time: many ratings in the same second, as in the real files; the file is in no order."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(NUM_USERS * NUM_MOVIES * 2)[:NUM_RATINGS]
    user, movie = pairs % NUM_USERS + 1, pairs // NUM_USERS % NUM_MOVIES + 1
    time = 978_300_000 + rng.integers(0, 60, NUM_RATINGS) * 3_600 * 7
    return np.stack([user, movie, rng.integers(1, 6, NUM_RATINGS), time], axis=1)


def movie_genres(movie: int) -> list[str]:
    return [genre for i, genre in enumerate(GENRES) if movie % (i + 2) == 0] or ["Drama"]


def ml_1m(folder, **changes: str | bytes) -> str:
    """A tiny folder of the same form; ``changes`` replace whole files by their names without ``.dat``."""
    files: dict[str, str | bytes] = {
        "ratings": "".join("::".join(map(str, row)) + "\n" for row in ratings().tolist()),
        "users": "".join(
            f"{i}::{'FM'[i % 2]}::{(1, 18, 25, 35, 45, 50, 56)[i % 7]}::{i % 21}::{10_000 + i * 997}\n"
            for i in range(1, NUM_USERS + 1)
        ),
        "movies": "".join(
            f"{i}::Amélie :: part {i} ({1930 + i * 2})::{'|'.join(movie_genres(i))}\n" for i in range(1, NUM_MOVIES + 1)
        ),
        **changes,
    }
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.dat").write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
    return str(folder)


def ml_100k(folder) -> str:
    folder.mkdir()
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings().tolist()))
    users = [f"{i}|{7 * i}|{'FM'[i % 2]}|{('writer', 'none')[i % 2]}|T8H{i}\n" for i in range(1, NUM_USERS + 1)]
    (folder / "u.user").write_text("".join(users))
    lines = []
    for i in range(1, NUM_MOVIES + 1):
        flags = "|".join("1" if genre in movie_genres(i) else "0" for genre in movielens_files.GENRES_100K)
        released = f"01-Jan-{1930 + 2 * i}" if i > 1 else ""
        lines.append(f"{i}|Amélie ({1930 + 2 * i})|{released}||http://x|{flags}\n")
    (folder / "u.item").write_bytes("".join(lines).encode("latin-1"))
    return str(folder)


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


@pytest.mark.parametrize(
    "encode", [lambda text: text.encode("utf-8-sig"), lambda text: text.replace("\n", "\r\n").encode("latin-1")]
)
def test_copies_in_utf8_or_with_windows_line_ends_give_the_same_rows(tmp_path, encode):
    prepare(folder=ml_1m(tmp_path / "raw"), to=str(tmp_path / "a"))
    files = {
        name: encode((tmp_path / "raw" / f"{name}.dat").read_text("latin-1")) for name in ("ratings", "users", "movies")
    }
    prepare(folder=ml_1m(tmp_path / "raw", **files), to=str(tmp_path / "b"))
    for split in SPLITS:
        assert pq.read_table(tmp_path / "a" / split).equals(pq.read_table(tmp_path / "b" / split))


GOOD = "".join("::".join(map(str, row)) + "\n" for row in ratings().tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratings": GOOD + "1::2::5\n"}, r"line 601 is no rating \(file .*ratings\.dat, value 1::2::5\)"),
        ({"ratings": GOOD + "1::2::five::978300000\n"}, "line 601 is no rating"),
        ({"ratings": GOOD + "1,2,5,978300000\n"}, "line 601 is no rating"),
        ({"ratings": GOOD + "1::2::4.5::978300000\n"}, "line 601 is no rating"),
        ({"ratings": GOOD + "1::2::6::978300000\n"}, r"not 1 to 5 .*value 6"),
        ({"ratings": GOOD + "99::2::5::978300000\n"}, r"user is unknown .*value 99"),
        ({"ratings": GOOD + "1::99::5::978300000\n"}, r"movie is unknown .*value 99"),
        ({"ratings": ""}, r"no ratings in the file"),
        ({"ratings": "1::1::5::978300000\n" * 9}, "too few ratings"),
        ({"ratings": GOOD.encode("utf-16")}, r"no latin-1 text .*ratings\.dat"),
        ({"users": "1::X::25::3::12345\n"}, r"line 1 does not parse \(file .*users\.dat, value 1::X"),
        ({"users": "1::M::26::3::12345\n"}, r"line 1 does not parse"),
        ({"users": "1::M::25::33::12345\n"}, r"line 1 does not parse"),
        ({"users": "1::M::25\n"}, r"line 1 does not parse"),
        ({"movies": "one::Title (1990)::Drama\n"}, r"line 1 does not parse \(file .*movies\.dat"),
        ({"movies": "1\n"}, r"line 1 does not parse"),
    ],
)
def test_bad_files_are_named_by_line(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        prepare(folder=ml_1m(tmp_path / "raw", **changes), to=str(tmp_path / "to"))
    assert "Remedy: " in str(caught.value)
    assert not (tmp_path / "to").exists()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"neither ratings\.dat nor u\.data"):
        prepare(folder=str(tmp_path), to=str(tmp_path / "to"))
    ml_1m(tmp_path / "raw")
    (tmp_path / "raw" / "movies.dat").unlink()
    with pytest.raises(DataError, match=r"missing \(file .*movies\.dat"):
        prepare(folder=str(tmp_path / "raw"), to=str(tmp_path / "to"))


def test_a_known_number_of_ratings_must_have_its_known_histogram(tmp_path, monkeypatch):
    found = np.bincount(ratings()[:, 2], minlength=6)[1:].tolist()
    right = (NUM_USERS, NUM_MOVIES, tuple(found))
    monkeypatch.setattr(movielens_files, "KNOWN", {NUM_RATINGS: right})
    prepare(folder=ml_1m(tmp_path / "raw"), to=str(tmp_path / "to"))
    monkeypatch.setattr(movielens_files, "KNOWN", {NUM_RATINGS: (NUM_USERS, NUM_MOVIES, (1, 2, 3, 4, 590))})
    with pytest.raises(DataError, match="must have these"):
        prepare(folder=str(tmp_path / "raw"), to=str(tmp_path / "other"))


def test_the_known_numbers_are_the_published_ones():
    known = movielens_files.KNOWN
    assert all(sum(histogram) == num for num, (_, _, histogram) in known.items())
    assert known[1_000_209][:2] == (6_040, 3_706)


def test_large_data_is_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "CHUNK", 100)
    seen = []
    prepare(
        folder=ml_1m(tmp_path / "raw"), to=str(tmp_path / "to"), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (NUM_RATINGS, NUM_RATINGS)
    assert len(seen) > 5
