"""YAML of strangers: plain values, no more of them than are allowed when all aliases are unfolded."""

from typing import Any

import yaml

PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
PLAIN_TAGS |= {"tag:yaml.org,2002:timestamp"}  # a date is read as its text
NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
MOST_DEPTH = 100
MOST_DIGITS = 100  # of a number; 59:59:59… is one, and takes time by the square of its length


class YamlRefusedError(ValueError):
    """What is wrong, to follow "the config" or another name of the file; and the value."""

    def __init__(self, problem: str, value: str | None = None) -> None:
        super().__init__(problem if value is None else f"{problem}: {value}")
        self.problem, self.value = problem, value


def load(text: str, *, most_values: int, most_letters: int) -> Any:
    """Return what a text of YAML holds.

    Raises:
        YamlRefusedError: It has tags that make objects, or unfolds to more than ``most_values``, or a text in it is
            longer than ``most_letters``.
        yaml.YAMLError, ValueError, RecursionError: It is no YAML.
    """
    loader = _Loader(text)
    loader.most_nodes = most_values
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root, most_values, most_letters)
        return loader.construct_document(root)
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Reads no more and goes no deeper than anybody writes: depth takes time by its square."""

    most_nodes, _nodes, _depth = 0, 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        self._nodes += 1
        if self._nodes > self.most_nodes:
            raise YamlRefusedError(f"holds more than {self.most_nodes:,} values")
        if self._depth > MOST_DEPTH:
            raise YamlRefusedError(f"has more than {MOST_DEPTH} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level > MOST_DEPTH:
            raise YamlRefusedError(f"has more than {MOST_DEPTH} levels")
        super().fetch_flow_collection_start(token)


def _check(root: yaml.Node, most_values: int, most_letters: int) -> None:
    counted: dict[int, int] = {}
    under_way: set[int] = set()

    def count(node: yaml.Node) -> int:
        if id(node) in counted:
            return counted[id(node)]
        if node.tag not in PLAIN_TAGS:
            raise YamlRefusedError("holds a YAML tag that makes an object", node.tag)
        if id(node) in under_way:
            raise YamlRefusedError("holds an alias of itself")
        under_way.add(id(node))
        total = 1
        if isinstance(node, yaml.SequenceNode):
            total += sum(map(count, node.value))
        elif isinstance(node, yaml.MappingNode):
            total += sum(count(key) + count(value) for key, value in node.value)
        elif len(node.value) > (MOST_DIGITS if node.tag in NUMBERS else most_letters):
            what = "a number" if node.tag in NUMBERS else "a text"
            raise YamlRefusedError(f"holds {what} of {len(node.value):,} letters", f"{node.value:.60}…")
        under_way.discard(id(node))
        counted[id(node)] = total
        return total

    if (total := count(root)) > most_values:
        said = f"{total:,}" if total < 10**15 else "too many"
        raise YamlRefusedError(f"unfolds to {said} values, and may to {most_values:,}")
