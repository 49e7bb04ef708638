"""The type of a text file's column, from all of its values: the narrowest one that gives each of them back.

    int64        canonical digits that fit: 7, -12, 0; neither 007, +7, -0 nor 20 digits, which would not come back
    bool         true and false, in one spelling
    date, time   as ISO 8601 has them
    double       numbers of which one at least has a point or a negative exponent: ``1e3`` beside ``1000`` are texts
    string       all else

A column of doubles may be written so that different texts are one number (1.50 and 1.5). Such a column is ``loose``:
as a number it is a double; ids are to be taken from the texts.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

NULL_WORDS = (
    *("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "-nan", "null", "NULL", "Null", "None", "none", "nil"),
    *("\\N", "-", "?", "."),
)
WHOLE = r"^(0|-?[1-9][0-9]*)$"
_WHOLE_LIKE = r"^\s*[+-]?[0-9]+\s*$"
_NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$|^\s*[+-]?([iI]nf|[iI]nfinity|INF)\s*$"
_ODD = r"^\s*[+-]?0[0-9]|^\s*\+?\s*[0-9]+\s+$|^\s+[+-]?[0-9]+\s*$|^\s*\+[0-9]+\s*$|^\s*-0+\s*$"  # whole, not canonical
_POINT = r"\.|[eE]-|[iI][nN][fF]"
_FIXED = r"^-?(0|[1-9][0-9]*)\.[0-9]+$"
_TIME_OF_DAY = r"^[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?$"
_DATED = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_SPELLINGS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
_TIMES = (
    pa.date32(),
    pa.time64("us"),
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp(unit, "UTC") for unit in ("s", "ms", "us", "ns")),
)


@dataclass(frozen=True)
class TextType:
    """What a column of texts is. ``loose`` is described above; with ``merges`` it is so only because 1 stands beside
    1.0. ``note`` says what a user may want to know."""

    type: pa.DataType
    loose: bool = False
    merges: bool = False
    note: str = ""


class TypeOfTexts:
    """Narrows a column's type down, batch by batch."""

    def __init__(self) -> None:
        self._times = list(_TIMES)
        self._spellings = list(_SPELLINGS)
        self._whole = self._number = self._canonical = True
        self._point = self._any = False
        self._fixed: set[int] | None = set()
        self._shortest = True
        self._whole_forms: set[bool] = set()  # whether whole numbers end in .0
        self._long = False  # whether whole numbers of more digits than a double is sure to keep came before others
        self._words: dict[str, None] = {}

    def update(self, texts: pa.Array) -> None:
        """Take in some values; nulls and repeated values do no harm."""
        texts = pc.drop_null(pc.unique(texts))
        texts = texts.filter(pc.not_equal(texts, ""))
        is_word = pc.is_in(texts, pa.array(NULL_WORDS))
        self._words |= dict.fromkeys(texts.filter(is_word).to_pylist())
        texts = texts.filter(pc.invert(is_word))
        if not len(texts):
            return
        self._any = True
        if self._spellings:
            self._spellings = [spelling for spelling in self._spellings if _all_in(texts, spelling)]
        if self._number:
            self._number = _all_match(texts, _NUMBER)
        self._whole = self._whole and self._number and _all_match(texts, WHOLE) and _casts(texts, pa.int64())
        if self._whole:  # as a double, a whole number of up to 15 digits is written as it stands
            self._whole_forms.add(False)
            self._long = self._long or pc.max(pc.utf8_length(texts)).as_py() > 15
        elif self._number:
            self._look_at_numbers(texts)
        if self._times and (not _all_match(texts, _DATED + "|" + _TIME_OF_DAY)):
            self._times = []
        self._times = [kind for kind in self._times if _casts(texts, kind)]

    def _look_at_numbers(self, texts: pa.Array) -> None:
        self._canonical = self._canonical and not _any_matches(texts, _ODD)
        self._point = self._point or _any_matches(texts, _POINT)
        if self._fixed is not None:
            lengths = pc.unique(pc.utf8_length(pc.replace_substring_regex(texts, r"^[^.]*\.?", ""))).to_pylist()
            self._fixed |= set(lengths)
            short = pc.max(pc.utf8_length(texts)).as_py() <= 16
            if len(self._fixed) > 1 or not short or not _all_match(texts, _FIXED) or _any_matches(texts, r"^-[0.]+$"):
                self._fixed = None
        if self._shortest:  # what programs write that write as few digits as give the number back
            numbers = texts.cast(pa.float64()) if not _any_matches(texts, r"^\s|\s$") else None
            if numbers is None or _any_matches(texts, r"^-[0.]+$"):
                self._shortest = False
                return
            written = numbers.cast(pa.string())
            plain, pointed = pc.equal(texts, written), pc.equal(texts, pc.binary_join_element_wise(written, ".0", ""))
            padded = pc.equal(pc.replace_substring_regex(texts, r"e([+-])0", r"e\1"), written)
            self._shortest = pc.all(pc.or_(pc.or_(plain, pointed), padded)).as_py()
            whole = pc.match_substring_regex(written, r"^-?[0-9]+$")
            for form, found in ((True, pointed), (False, pc.and_(plain, whole))):
                if pc.any(found).as_py():
                    self._whole_forms.add(form)

    @property
    def found(self) -> TextType:
        """The type of all values so far."""
        narrow = self._narrow()
        known = not (pa.types.is_null(narrow.type) or pa.types.is_string(narrow.type))
        if self._words and (known or pa.types.is_null(narrow.type)):
            words = ", ".join(list(self._words)[:3])
            note = f"text because of {words}; nulls=['',{words.replace(' ', '')}] reads that as null" if known else ""
            return TextType(pa.string(), note=note)
        return narrow

    def _narrow(self) -> TextType:
        if not self._any:
            return TextType(pa.null())
        if self._whole:
            return TextType(pa.int64())
        if self._spellings:
            return TextType(pa.bool_())
        if self._times:
            return TextType(self._times[0])
        if not self._number:
            return TextType(pa.string())
        if not (self._point and self._canonical):
            return TextType(pa.string(), note="digits that a number would not keep: read as text")
        if self._fixed is not None and False not in self._whole_forms:
            return TextType(pa.float64())
        shortest = self._shortest and not self._long
        merges = shortest and len(self._whole_forms) > 1
        return TextType(pa.float64(), loose=merges or not shortest, merges=merges)


def _all_match(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _any_matches(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _all_in(texts: pa.Array, known: tuple[str, ...]) -> bool:
    return bool(pc.all(pc.is_in(texts, pa.array(known))).as_py())


def _casts(texts: pa.Array, kind: pa.DataType) -> bool:
    try:
        typed(texts, kind)
    except pa.ArrowInvalid:
        return False
    return True


def typed(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return texts as values of a type; empty ones are null, true and false are 1 and 0 among floats.

    ArrowInvalid, with the text, where one is none.
    """
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if pa.types.is_string(kind):
        return texts
    if pa.types.is_null(kind):
        return pa.nulls(len(texts))
    if pa.types.is_floating(kind):
        return _floats(pc.utf8_trim_whitespace(texts), kind)
    if pa.types.is_integer(kind):
        return pc.utf8_trim_whitespace(texts).cast(kind)
    if pa.types.is_boolean(kind):
        return pc.utf8_lower(texts).cast(kind)
    if pa.types.is_time(kind):
        if not _all_match(pc.drop_null(texts), _TIME_OF_DAY) and texts.null_count < len(texts):
            raise pa.ArrowInvalid("no times of day")
        return pc.binary_join_element_wise("1970-01-01T", texts, "").cast(pa.timestamp("us")).cast(kind)
    return texts.cast(kind)


def _floats(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        lower = pc.utf8_lower(texts)
        return pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", texts)).cast(kind)
