"""Text of others, made fit to be shown, as names in data, study.json and pairs.json may hold anything; and numbers."""

import unicodedata
from typing import Any

# Control characters (escape sequences of a terminal, line ends), marks that turn the direction of writing, lone halves
# of surrogate pairs, which no file takes, and separators of lines.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # parts of words in Persian and Indic scripts, and of emoji
MOST = 200


def printable(text: object, *, most: int = MOST) -> str:
    """Return ``text`` on one line, with what would not be seen, or would move what is, written as an escape.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    shown = "".join(_visible(character) for character in str(text))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def all_printable(value: Any, *, most: int = MOST) -> Any:
    """Return what JSON may hold with every string in it printable, the keys too."""
    if isinstance(value, str):
        return printable(value, most=most)
    if isinstance(value, dict):
        return {printable(key, most=most): all_printable(item, most=most) for key, item in value.items()}
    return [all_printable(item, most=most) for item in value] if isinstance(value, list) else value


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def p_text(p: float | None) -> str:
    """A p value as it is shown everywhere: three decimals, "< 0.001" below, a dash where there is none."""
    if p is None:
        return "–"
    shown = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return f"{p:.4f}" if shown == "0.050" else shown  # which side of 0.05 it is on must be seen


def divergence_text(value: float) -> str:
    """Four decimals; of a smaller number that is not zero, one digit."""
    return f"{value:.0e}" if 0 < value < 5e-5 else f"{value:.4f}"
