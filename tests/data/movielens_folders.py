"""Tiny folders of the form of the raw MovieLens files."""

from pathlib import Path

import numpy as np

from c2al.data.movielens_files import GENRES_100K

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


def ml_1m(folder: Path, **changes: str | bytes) -> str:
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


def ml_100k(folder: Path) -> str:
    folder.mkdir()
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings().tolist()))
    users = [f"{i}|{7 * i}|{'FM'[i % 2]}|{('writer', 'none')[i % 2]}|T8H{i}\n" for i in range(1, NUM_USERS + 1)]
    (folder / "u.user").write_text("".join(users))
    lines = []
    for i in range(1, NUM_MOVIES + 1):
        flags = "|".join("1" if genre in movie_genres(i) else "0" for genre in GENRES_100K)
        released = f"01-Jan-{1930 + 2 * i}" if i > 1 else ""
        lines.append(f"{i}|Amélie ({1930 + 2 * i})|{released}||http://x|{flags}\n")
    (folder / "u.item").write_bytes("".join(lines).encode("latin-1"))
    return str(folder)
