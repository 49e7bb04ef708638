import numpy as np
import pyarrow.parquet as pq
import pytest

from c2al.data import movielens_files
from c2al.data.movielens import prepare
from c2al.schema import SPLITS, DataError
from tests.data.movielens_folders import NUM_MOVIES, NUM_RATINGS, NUM_USERS, ml_1m, ratings


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
