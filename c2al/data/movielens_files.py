"""The raw files of MovieLens-1M (``ratings.dat`` …) and MovieLens-100K (``u.data`` …), as their makers ship them.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015. The licence allows
research and no redistribution: users bring their own copy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import fsspec
import numpy as np

from c2al.schema import DataError

AGE_GROUPS = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
OCCUPATIONS = (
    "other",
    "educator",
    "artist",
    "administrator",
    "student",
    "customer service",
    "healthcare",
    "executive",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "marketing",
    "scientist",
    "self-employed",
    "engineer",
    "tradesman",
    "unemployed",
    "writer",
)
GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
KNOWN = {  # number of ratings -> users, rated movies, ratings of 1 to 5
    1_000_209: (6_040, 3_706, (56_174, 107_557, 261_197, 348_971, 226_310)),
    100_000: (943, 1_682, (6_110, 11_370, 27_145, 34_174, 21_201)),
}
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class User:
    """One line of the users' file."""

    gender: str
    age_group: str
    occupation: str
    zip_prefix: str


@dataclass(frozen=True)
class Movie:
    """One line of the movies' file; ``decade`` is empty where the file gives no year."""

    decade: str
    genres: tuple[str, ...]


@dataclass(frozen=True)
class MovieLens:
    """Ratings as arrays of equal length, in the file's order; users and movies by id."""

    name: str
    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    time: np.ndarray  # seconds since 1970, UTC
    users: dict[int, User]
    movies: dict[int, Movie]


def read_movielens(folder: str) -> MovieLens:
    """Read and check a folder; a known number of ratings must come with its known histogram."""
    folder = folder.rstrip("/")
    files, root = fsspec.url_to_fs(folder)
    if files.exists(f"{root}/ratings.dat"):
        name, (ratings, users, movies), separator = "ml-1m", ("ratings.dat", "users.dat", "movies.dat"), "::"
        parse_user, parse_movie = _user_1m, _movie_1m
    elif files.exists(f"{root}/u.data"):
        name, (ratings, users, movies), separator = "ml-100k", ("u.data", "u.user", "u.item"), "|"
        parse_user, parse_movie = _user_100k, _movie_100k
    else:
        remedy = "give the unpacked folder ml-1m (ratings.dat) or ml-100k (u.data)"
        raise DataError("neither ratings.dat nor u.data is there", file=folder, remedy=remedy)
    user, movie, rating, time = _ratings(f"{folder}/{ratings}", "\t" if name == "ml-100k" else separator)
    data = MovieLens(
        name,
        user,
        movie,
        rating,
        time,
        _by_id(f"{folder}/{users}", separator, parse_user),
        _by_id(f"{folder}/{movies}", separator, parse_movie),
    )
    _check(data, f"{folder}/{ratings}")
    return data


def _ratings(path: str, separator: str) -> np.ndarray:
    lines = _lines(path)
    fields = [line.split(separator) for line in lines]
    try:
        numbers = np.array(fields, dtype="U20").astype(np.int64)
        if numbers.shape[1:] == (4,):
            return numbers.T
    except ValueError:
        pass
    for number, line in enumerate(fields, 1):
        if len(line) != 4 or not all(field.strip().lstrip("-").isdigit() for field in line):
            remedy = f"a line is user, movie, rating, time, separated by {separator!r}: get the file anew"
            raise DataError(f"line {number} is no rating", file=path, value=lines[number - 1][:80], remedy=remedy)
    raise DataError("no ratings in the file", file=path, remedy="get the file anew")


def _by_id(path: str, separator: str, parse: Callable[[list[str]], Parsed]) -> dict[int, Parsed]:
    found = {}
    for number, line in enumerate(_lines(path), 1):
        fields = line.split(separator)
        try:
            found[int(fields[0])] = parse(fields)
        except (ValueError, IndexError, KeyError):
            remedy = "get the file anew"
            raise DataError(f"line {number} does not parse", file=path, value=line[:80], remedy=remedy) from None
    return found


def _lines(path: str) -> list[str]:
    """Lines that are not empty: latin-1 as shipped, or UTF-8 as some copies are."""
    try:
        with fsspec.open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError:
        raise DataError("a file is missing", file=path, remedy="unpack the whole archive") from None
    if b"\0" in raw:
        raise DataError(
            "the file is no latin-1 text (UTF-16?)", file=path, remedy="give the files as they were shipped"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = (line.rstrip("\r") for line in text.split("\n"))  # not splitlines(): latin-1 titles may hold byte 0x85
    return [line for line in lines if line]


def _user_1m(fields: list[str]) -> User:
    _, gender, age, occupation, zip_code = fields
    if gender not in ("F", "M"):
        raise ValueError(gender)
    return User(gender, AGE_GROUPS[int(age)], OCCUPATIONS[int(occupation)], zip_code.strip()[:3])


def _user_100k(fields: list[str]) -> User:
    _, age, gender, occupation, zip_code = fields
    if gender not in ("F", "M"):
        raise ValueError(gender)
    group = max(start for start in AGE_GROUPS if start <= max(int(age), 1))
    return User(gender, AGE_GROUPS[group], occupation, zip_code.strip()[:3])


def _movie_1m(fields: list[str]) -> Movie:
    _, *words, genres = fields
    title = "::".join(words)  # which may hold the separator
    if not words:
        raise ValueError(fields)
    return Movie(_decade(title[-5:-1]) if title.endswith(")") else "", tuple(genres.strip().split("|")))


def _movie_100k(fields: list[str]) -> Movie:
    released, flags = fields[2], fields[5:]
    if len(flags) != len(GENRES_100K) or set(flags) - {"0", "1"}:
        raise ValueError(flags)
    genres = tuple(genre for genre, flag in zip(GENRES_100K, flags, strict=True) if flag == "1")
    return Movie(_decade(released[-4:]), genres)


def _decade(year: str) -> str:
    return f"{year[:3]}0s" if year.isdigit() and len(year) == 4 else ""


def _check(data: MovieLens, path: str) -> None:
    for column, values, known in (("user", data.user, data.users), ("movie", data.movie, data.movies)):
        unknown = np.setdiff1d(values, np.fromiter(known, dtype=np.int64, count=len(known)))
        if len(unknown):
            remedy = f"the {column}s' file must belong to these ratings"
            raise DataError(
                f"a rating's {column} is unknown", file=path, column=column, value=int(unknown[0]), remedy=remedy
            )
    outside = data.rating[(data.rating < 1) | (data.rating > 5)]
    if len(outside):
        raise DataError("a rating is not 1 to 5", file=path, value=int(outside[0]), remedy="get the file anew")
    found = (
        len(np.unique(data.user)),
        len(np.unique(data.movie)),
        tuple(np.bincount(data.rating, minlength=6)[1:].tolist()),
    )
    expected = KNOWN.get(len(data.rating))
    if expected is not None and found != expected:
        raise DataError(
            f"{len(data.rating)} ratings must have these users, movies and numbers of ratings 1 to 5: {expected}",
            file=path,
            value=found,
            remedy="get the file anew",
        )
