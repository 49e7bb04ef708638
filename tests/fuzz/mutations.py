"""Small damages: to bytes, to trees of JSON or YAML, to the cells of a CSV file, to words of the command line."""

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, 1e308, float("nan"), float("inf"), -0.0),
    *("", "a", "\0", "../../etc/passwd", "é" * 50, "${oc.env:HOME}", "${seed}", "???", "1e3", "None"),
    *([], {}, [[]], {"a": 1}, [None], [1, "a"]),
)
CELLS = (
    *("", "nan", "inf", "1e999", "NULL", "NA", '"', '""', "a,b", "\n", "\0", "'=cmd()", "1,5", "0x1", "٣", "007", " 7"),
    *("2026-01-01", "-9223372036854775809", "18446744073709551616", "\ufeff", "é", "true"),
)
KEYS = (
    *("seed", "name", "run_dir", "model", "method", "data", "data.path", "data.sparse", "parallel", "training", "zzz"),
    *("training.steps", "training.batch_size", "training.dense.learning_rate", "training.sparse.tables.user"),
    *(
        "cohorts.axis",
        "model.dim",
        "model.dims.user",
        "parallel.world_size",
        "study.seeds",
        "hydra.run.dir",
        "to",
        "run",
    ),
)
WORDS = (
    *("1", "-1", "nan", "inf", "1e999", "null", "[]", "{}", "[1,2", "{a:1}", "'", '"', "a=b", "a,b", "=", "", "*", "é"),
    *("${seed}", "${oc.env:HOME}", "${", "../..", "\n", "!!python/object:os.system", "0x1", "1_0", "true", "~", "???"),
)


def damaged(data: bytes, random: Random) -> bytes:
    """The bytes with some changed, cut off, inserted, removed, or overwritten by extreme numbers."""
    if not data:
        return b"x"
    changed, kind = bytearray(data), random.random()
    at = random.randrange(len(changed))
    if kind < 0.55:
        for _ in range(random.choice([1, 1, 2, 4, 16])):
            changed[random.randrange(len(changed))] = random.randrange(256)
    elif kind < 0.7:
        del changed[at:]
    elif kind < 0.8:
        changed[at : at + 8] = random.choice([b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f"])
    elif kind < 0.9:
        changed[at:at] = random.randbytes(random.randrange(1, 40))
    else:
        del changed[at : at + random.randrange(1, len(changed))]
    return bytes(changed)


def other_tree(tree: Any, random: Random) -> Any:
    """A copy of the tree with one to three places deleted, added, repeated or replaced."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        places = [place for place in _places(tree) if place]
        if not places:
            return tree
        *path, last = random.choice(places)
        inside = tree
        for key in path:
            inside = inside[key]
        kind = random.random()
        if kind < 0.2:
            del inside[last]
        elif kind < 0.3 and isinstance(inside, dict):
            inside[random.choice(["zzz", "_target_", "name"])] = random.choice(VALUES)
        elif kind < 0.4 and isinstance(inside, list):
            inside.append(inside[last])
        else:
            inside[last] = random.choice(VALUES)
    return tree


def _places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(tree, dict):
        for key in tree:
            yield from _places(tree[key], (*above, key))
    elif isinstance(tree, list):
        for index in range(min(len(tree), 5)):
            yield from _places(tree[index], (*above, index))


def other_cells(text: str, random: Random) -> str:
    """A CSV text with some cells replaced."""
    lines = text.split("\n")
    for _ in range(random.choice([1, 2, 5])):
        row = random.randrange(len(lines) - 1)
        cells = lines[row].split(",")
        cells[random.randrange(len(cells))] = random.choice(CELLS)
        lines[row] = ",".join(cells)
    return "\n".join(lines)


def command_words(random: Random) -> list[str]:
    """One to three words for the command line: overrides of odd keys and values, or no words at all."""
    words = []
    for _ in range(random.choice([1, 1, 2, 3])):
        if random.random() < 0.8:
            sign = random.choice(["+", "++", "~"]) if random.random() < 0.2 else ""
            words.append(f"{sign}{random.choice(KEYS)}={random.choice(WORDS)}")
        else:
            letters = [*range(1, 127), 0xE9, 0x2028]
            words.append("".join(chr(random.choice(letters)) for _ in range(random.randrange(1, 20))))
    return words
