"""Ranked pairs of cohorts, and the file that keeps them: ``pairs.json``, which ``cohorts.pair=…`` reads later."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from c2al.json_text import to_json
from c2al.plain_files import read_regular, whole_file
from c2al.printable import divergence_text, p_text, printable
from c2al.schema import DataError, is_local, refuse_elsewhere

T = TypeVar("T")

SURE, TOO_SMALL, CHANCE = "sure", "too small to matter", "may be chance"
UNBORNE = "not borne out by the labels"


@dataclass(frozen=True)
class Side:
    """One cohort of a pair. Rates and means are weighted; ``units`` is Kish's effective number of them."""

    name: str
    rows: int
    units: float
    weight: float
    positives: int
    positive_rate: float
    mean_prediction: float


@dataclass(frozen=True)
class Pair:
    """Two cohorts of an axis; ``head`` is the one with the higher mean prediction.

    ``interval`` and the p values are those of the divergence ranked by; ``excess`` is how much of it is over the mean
    under the null hypothesis, where it is not 0 but grows as cohorts shrink. ``borne_out``, of learned cohorts only,
    is the share of the predicted difference that the labels show, and its lower bound. ``least`` is the divergence that
    the whole interval must exceed for the pair to be significant; None where the labels do not bear the pair out.
    """

    axis: str
    head: Side
    tail: Side
    divergences: dict[str, float]
    excess: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    significant: bool
    borne_out: tuple[float, float] | None = None
    least: float | None = 0.0

    @property
    def verdict(self) -> str:
        """In words: the interval starts at zero where the pair may be chance."""
        if self.significant:
            return SURE
        return CHANCE if self.interval[0] <= 0 else UNBORNE if self.least is None else TOO_SMALL

    def plain(self) -> dict[str, Any]:
        """For JSON: the two sides flattened, ``head`` and ``tail`` their names, ``head_rows`` and so on."""
        sides = {
            f"{which}_{key}": value
            for which, side in (("head", self.head), ("tail", self.tail))
            for key, value in asdict(side).items()
            if key != "name"
        }
        return {**asdict(self), **sides, "head": self.head.name, "tail": self.tail.name, "verdict": self.verdict}


@dataclass(frozen=True)
class Discovery:
    """All pairs, best first: the significant ones by their divergence, then the others by theirs.

    ``bins`` are the edges of the histograms in log10 of the probability; ``histograms[i]`` holds the first few pairs'
    shares of weight per bin; ``left_out`` says which cohorts were too small to compare, and in what. ``words[axis]``
    describes the cohorts of a learned axis; ``view`` is the folder by which training sees them (``c2al.data.view``).
    """

    axes: tuple[str, ...]
    divergence: str
    rows: int
    pairs: tuple[Pair, ...]
    bins: tuple[float, ...]
    histograms: tuple[dict[str, Any], ...]
    left_out: tuple[dict[str, Any], ...]
    settings: dict[str, Any]
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    view: str | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        ranked = [{"rank": rank, **pair.plain()} for rank, pair in enumerate(self.pairs, start=1)]
        return {**asdict(self), "pairs": ranked}

    def save(self, folder: str) -> None:
        """Write ``pairs.png`` and ``pairs.json`` into a folder, each whole or not at all."""
        from c2al.cohorts.picture import draw  # training, which reads pairs alone, does not wait for matplotlib

        _write(f"{folder.rstrip('/')}/pairs.png", lambda file: draw(file, self.plain()))
        text = to_json(self.plain(), indent=1, ensure_ascii=False)
        _write(f"{folder.rstrip('/')}/pairs.json", lambda file: file.write(text.encode("utf-8", "surrogatepass")))

    def table(self, n: int = 10) -> list[dict[str, str]]:
        """The first n pairs as text, by column heading."""
        share = f"{100 * (1 - self.settings['alpha']):g} % interval"
        return [
            {
                "rank": str(rank),
                "axis": printable(pair.axis),
                "head": printable(pair.head.name),
                "tail": printable(pair.tail.name),
                self.divergence: f"{pair.divergences[self.divergence]:.4f}",
                share: " to ".join(divergence_text(end) for end in pair.interval),
                "p (Holm)": p_text(pair.p_holm),
                "significant": {SURE: "yes", TOO_SMALL: "too small"}.get(pair.verdict, "no"),
                "rows": f"{pair.head.rows:,} / {pair.tail.rows:,}",
                "positive rate": f"{pair.head.positive_rate:.3%} / {pair.tail.positive_rate:.3%}",
                "mean prediction": f"{pair.head.mean_prediction:.3%} / {pair.tail.mean_prediction:.3%}",
            }
            for rank, pair in enumerate(self.pairs[:n], start=1)
        ]


def load_pair(path: str, index: int = 0) -> tuple[str, str, str]:
    """(axis, head, tail) of a ``pairs.json``, by index from 0, best first."""
    names = _read(path, lambda found: [_names(pair) for pair in found["pairs"]])
    if not 0 <= index < len(names):
        raise DataError(f"the file holds {len(names)} pairs", file=path, value=index, remedy="choose a smaller index")
    return names[index]


def load_view(path: str) -> str | None:
    """The view by which training sees the learned cohorts of a ``pairs.json``; None where it holds none."""

    def view(found: dict[str, Any]) -> str | None:
        if (said := found.get("view")) is None or (isinstance(said, str) and said):
            if said is not None:
                refuse_elsewhere(said, of=path, what="the view's files")
            return said
        raise ValueError(f"view: {said!r} names no folder")

    return _read(path, view)


def least_divergent(path: str) -> tuple[str, str, str]:
    """(axis, head, tail) of the pair of a ``pairs.json`` whose predictions differ least, by the file's divergence."""

    def least(found: dict[str, Any]) -> tuple[str, str, str]:
        return _names(min(found["pairs"], key=lambda pair: pair["divergences"][found["divergence"]]))

    return _read(path, least)


def _names(pair: dict[str, Any]) -> tuple[str, str, str]:
    return str(pair["axis"]), str(pair["head"]), str(pair["tail"])


def _read(path: str, take: Callable[[dict[str, Any]], T]) -> T:
    remedy = "name the pairs.json that `c2al discover run=…` wrote"
    try:
        if is_local(path):
            return take(json.loads(read_regular(fsspec.url_to_fs(path)[1])))
        with fsspec.open(path, "rt", encoding="utf-8") as file:
            return take(json.load(file))
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("no file of cohort pairs there", file=path, remedy=remedy) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # no JSON, no UTF-8, other keys
        problem = f"not a file of cohort pairs: {printable(repr(error))}"
        raise DataError(problem, file=path, remedy=remedy) from error
    except OSError as error:
        raise DataError(
            f"the file of cohort pairs does not open: {error.strerror}", file=f"{path:.300}", remedy=remedy
        ) from error
    except Exception as error:  # those of stores, and of packages that are not there, have no class in common
        if is_local(path):
            raise
        problem = f"the file of cohort pairs does not open: {str(error) or type(error).__name__:.200}"
        raise DataError(problem, file=f"{path:.300}", remedy=f"{remedy}, or install what it asks for") from error


def _write(path: str, fill: Callable[[Any], Any]) -> None:
    files, place = fsspec.url_to_fs(path)
    part = f"{place}.part"
    try:
        files.makedirs(files._parent(place), exist_ok=True)
        if is_local(path):
            with whole_file(Path(place)) as file:
                fill(file)
            return
        try:
            with files.open(part, "wb") as file:
                fill(file)
            files.mv(part, place)
        except BaseException:  # a signal too
            with suppress(OSError):
                files.rm(part)
            raise
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise DataError(f"the file cannot be written: {reason}", file=path, remedy="choose another to=DIR") from error
