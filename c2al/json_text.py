"""JSON that every reader takes: a number that is not finite, for which JSON has no word, is null."""

import json
import math
from typing import Any


def to_json(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Return ``value`` as JSON text, NaN and infinities as null.

    A run's report must not be lost at its end because one of its numbers is not defined.
    """
    return json.dumps(_finite(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
