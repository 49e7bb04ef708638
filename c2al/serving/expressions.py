"""What symbolic sizes and guards of a graph file may say.

c2al reads neither: sizes are computed by the graph's own operators. But ``torch.export.load``, which opens the same
file, gives both to Python's ``eval``; so a file whose expressions are more than arithmetic of sizes is refused.
"""

import re
from collections.abc import Iterator
from typing import Any

SYMBOL = r"Symbol\('[su]\d{1,6}'(?:, (?:positive|nonnegative|integer|real|finite)=(?:True|False)){0,4}\)"
FUNCTIONS = "Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Integer|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Identity"
EXPRESSION = re.compile(rf"(?:{SYMBOL}|(?:{FUNCTIONS})(?=\()|(?<!\d)\d{{1,19}}(?!\d)|//|[-+*%(),<>=!&|~ ])*")
SIZE = r"L(?:\['[A-Za-z]\w{0,63}'\])(?:\[\d{1,6}\]){0,4}\.size\(\)\[\d{1,3}\]"
GUARD = re.compile(rf"(?:{SIZE}|(?:Mod|Max|Min|and|or|not)(?=[( ])|(?<!\d)\d{{1,19}}(?!\d)|//|[-+*%(),<>=! ])*")
LONGEST = 4096


def is_expression(text: Any) -> bool:
    """Whether a symbolic size is arithmetic of symbols and whole numbers; powers, which grow beyond bounds, are not."""
    return isinstance(text, str) and len(text) <= LONGEST and "**" not in text and bool(EXPRESSION.fullmatch(text))


def is_guard(text: Any) -> bool:
    """Whether a guard compares sizes of the inputs with each other and with whole numbers."""
    return isinstance(text, str) and len(text) <= LONGEST and "**" not in text and bool(GUARD.fullmatch(text))


def expressions(raw: Any) -> Iterator[Any]:
    """Find all ``expr_str`` in what JSON gave, without recursion."""
    waiting = [raw]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if "expr_str" in each:
                yield each["expr_str"]
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
