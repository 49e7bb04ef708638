"""Column names as names of other things: a file, a module. Different columns never share one."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", re.ASCII)


def file_names(columns: Iterable[str]) -> dict[str, str]:
    """Return a file name without ending for each column, different on any disk and in any archive.

    A column of ASCII letters, digits, ``_`` and ``-`` has its own name, unless another one differs from it in case
    only. Every other column (``c/d``, ``..``, 300 characters, control characters) has what can be read of its name,
    a dot and a hash of all of it: plain names hold no dot, so the two never clash.
    """
    columns = list(dict.fromkeys(columns))
    alike = Counter(column.lower() for column in columns)
    return {column: column if _is_plain(column, alike) else _hashed(column) for column in columns}


def _is_plain(column: str, alike: Counter[str]) -> bool:
    return alike[column.lower()] == 1 and _PLAIN.fullmatch(column) is not None


def _hashed(column: str) -> str:
    shown = re.sub(r"[^A-Za-z0-9_-]", "_", column)[:40]
    return f"{shown}.{hashlib.sha256(column.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def table_name(column: str) -> str:
    """Return ``table_<column>``, the name of a column's embedding table and of the torch modules that hold it.

    No torch module may have a dot in its name: a dot becomes ``%2E``. Where a name holds ``%2E`` or ``%25`` itself, its
    ``%`` becomes ``%25``, so every result comes from one column alone. Names without a dot stay as they are.
    """
    escaped = re.sub(r"%(?=2[E5])", "%25", column)
    return f"table_{escaped.replace('.', '%2E')}"
