"""Overrides as people type them, in Hydra's words, and what is said where one cannot be read.

Hydra's grammar gives ``=``, ``,``, ``(``, ``[``, ``{``, ``~``, ``#`` and all that is not ASCII a meaning of their own,
or none. Paths, names and column names may have any of them: the values of such keys are taken as they stand.
"""

import os
import re
import shlex
from collections.abc import Iterator, Sequence

from c2al.schema import DataError

# Mappings whose keys are the user's: no + is needed to add one.
OPEN = (
    *("ids_per_row", "parallel.bandwidths", "parallel.tables", "model.dims", "training.sparse.tables"),
    *("study.variants", "model.sequences"),
)
ALIASES = {"prepare": {"from": "folder"}, "serve": {"model": "artefact"}}  # names that Python or a group of conf/ has
ALIASES["score"] = {"model": "artefact", "data": "rows"}
PATHS = {  # by config: what is a path, or makes one
    "config": ("name", "run_dir", "data.path", "cohorts.pair", "training.checkpoints"),
    "prepare": ("folder", "to"),
    "evaluate": ("run",),
    "discover": ("run", "to"),
    "export": ("run", "to"),
    "report": ("study",),
    "score": ("artefact", "rows", "to", "scores"),
    "serve": ("artefact", "scores"),
}
PATHS["plan"] = (*PATHS["config"], "to")
PATHS["study"] = (*PATHS["config"], "study.name", "study.dir")
COLUMNS = {  # by config: names of columns and cohorts
    "config": ("cohorts.axis", "cohorts.head", "cohorts.tail", "data.target", "model.target"),
    "prepare": ("label", "weight", "unit", "split_by", "encoding", "delimiter"),
}
COLUMNS["plan"] = COLUMNS["study"] = COLUMNS["config"]
TEXTS = {  # by config: lists of texts, each element of which is taken as typed
    "prepare": ("nulls", "names", "exclude", "axes", "sparse", "dense"),
    "score": ("csv.nulls", "csv.names", "keep"),
    "discover": ("axes",),
}
WORD = re.compile(r"(\+{0,2}|~)([^=]*)=(.*)", re.DOTALL)
SWEEPS = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|extend_list)\(")


def literal_keys(name: str) -> set[str]:
    """The keys of a config whose values are taken as they stand."""
    return {*PATHS.get(name, ()), *COLUMNS.get(name, ())}


def is_open(key: str) -> bool:
    """Whether a key is an open mapping, or one of the user's own in it."""
    return any(key == each or key.startswith(f"{each}.") for each in OPEN)


def own_key(key: str, name: str) -> str:
    """A key as users type it, in the config's own name: folder for from=."""
    return ALIASES.get(name, {}).get(key, key)


def typed_key(key: str, name: str) -> str:
    """A config's key as users type it: from=, not folder=."""
    return next((typed for typed, own in ALIASES.get(name, {}).items() if own == key), key)


def in_hydras_words(words: Sequence[str], name: str, *, sweep: bool = False) -> list[str]:
    """Return overrides for Hydra: aliases resolved, literal values quoted, ``++`` where a user's own key is set.

    With ``sweep``, commas part the values of literal keys, unless a file or folder has that very name.
    """
    return [_in_hydras_words(word, name, sweep) for word in words]


def _in_hydras_words(word: str, name: str, sweep: bool) -> str:
    if not (found := WORD.fullmatch(word)):
        return word
    plus, key, value = found.groups()
    key = own_key(key, name)
    if key in literal_keys(name):
        value = _literal(value, sweep)
    elif key in TEXTS.get(name, ()):
        value = _texts(value, sweep)
    elif key.startswith("study.variants.") and not _parses(f"x={value}") and (elements := elements_of(value)):
        value = _listed(elements)
    if not plus and is_open(key) and _defines(name, key):
        plus = "++"
    return f"{plus}{key}={value}"


def _defines(name: str, key: str) -> bool:
    """Whether a verb's config has an open mapping: else its key is a mistake to be told of."""
    if key.startswith(("ids_per_row", "parallel.bandwidths")):
        return name == "plan"
    return name == "study" if key.startswith("study.") else name in ("config", "plan", "study")


def _literal(value: str, sweep: bool) -> str:
    if value in ("", "null", "???") or _is_quoted(value) or (sweep and SWEEPS.match(value)):
        return value
    if os.path.exists(value.partition("\0")[0]):
        return quoted(value)
    if value[0] + value[-1] in ("[]", "{}") and _parses(f"x={value}"):
        return value
    if sweep and "," in value:
        return ",".join(each if each in ("null", "") or _is_quoted(each) else quoted(each) for each in value.split(","))
    return quoted(value)


def _texts(value: str, sweep: bool) -> str:
    """A list of texts, or one text, for Hydra; a bare null stays null."""
    if sweep and (SWEEPS.match(value) or re.search(r"\]\s*,\s*\[", value)):
        return value
    if elements := elements_of(value):
        return _listed(elements)
    bracket = value[:1] in ("[", "{")  # empty, or not closed: for Hydra to read or to refuse
    return value if bracket else _literal(value, sweep)


def _listed(elements: Sequence[str]) -> str:
    return f"[{','.join(each if _is_quoted(each) else quoted(each) for each in elements)}]"


def literal_value(value: str) -> str | None:
    """The value of a literal key in a run's own config (``--config=FILE``), without Hydra; None for null."""
    return None if value == "null" else value[1:-1] if _is_quoted(value) else value


def quoted(text: str, mark: str = "'") -> str:
    """Text as a quoted string of Hydra's grammar."""
    escaped = re.sub(rf"(\\*)({mark}|\Z)", lambda found: found[1] * 2 + (f"\\{mark}" if found[2] else ""), text)
    return f"{mark}{escaped}{mark}"


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def elements_of(value: str) -> list[str]:
    """The elements of ``[a,b]``, split at commas that stand in no bracket and no quotes; none where it is no list."""
    if not (value.startswith("[") and value.endswith("]")):
        return []
    parts, depth, mark = [""], 0, ""
    for character in value[1:-1]:
        if mark or character in "'\"":
            mark = "" if character == mark else (mark or character)
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        if character == "," and not depth and not mark:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _parses(word: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_overrides([word])
    except HydraException:
        return False
    return True


def unreadable(words: Sequence[str], name: str, *, sweep: bool = False) -> DataError | None:
    """Say which override cannot be read, with the line that would work; None where all can."""
    for word, hydras in zip(words, in_hydras_words(words, name, sweep=sweep), strict=True):
        found = WORD.fullmatch(word)
        if not found and not word.startswith("~"):
            remedy = "write key=value; c2al <verb> --help lists the keys"
            return DataError("an override is key=value", value=word or "''", remedy=remedy)
        if _parses(hydras):
            continue
        if not found or not re.fullmatch(r"[\w@./:$-]+", found[2]):
            remedy = "c2al <verb> --help lists the keys"
            return DataError("no such key in the config", value=word, remedy=remedy)
        plus, key, value = found.groups()
        works = next((f"{plus}{key}={each}" for each in _ways(value) if _parses(f"{plus}{key}={each}")), None)
        closed = "close the bracket, or " if value[:1] in tuple("[{(") and not elements_of(value) else ""
        remedy = f"{closed}quote it: {shlex.quote(works)}" if works else "quote it"
        return DataError("the override cannot be read", value=word, remedy=remedy)
    return None


def _ways(value: str) -> Iterator[str]:
    if elements := elements_of(value):
        yield "[" + ",".join(each if _is_quoted(each) else quoted(each, '"') for each in elements) + "]"
    yield quoted(value, "'" if '"' in value else '"')
