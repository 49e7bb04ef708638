"""What a request is told when it gets no scores: a status, and one form of error for all of them.

    {"error": {"problem": …, "column": …, "row": …, "value": …, "remedy": …}}

A place that is not known is null. ``id`` is there with status 500 alone, and stands in the log beside the traceback.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from c2al.schema import DataError

LONGEST_VALUE = 200  # characters of a client's own value that it is shown


class RefusalError(Exception):
    """A request ends with this status. ``reason`` is the label that it is counted under."""

    def __init__(
        self,
        status: int,
        problem: str,
        *,
        remedy: str,
        reason: str,
        value: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(problem)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})
        self.error = {"problem": problem, "column": None, "row": None, "value": shown(value), "remedy": remedy}

    def response(self) -> Response:
        """The answer."""
        return error_response(self.status, self.error, self.headers)


def of_data(error: DataError, status: int = 422) -> RefusalError:
    """A DataError as an answer: its row is a number of its own where it names one."""
    refusal = RefusalError(status, error.problem, remedy=error.remedy, reason="data", value=error.where.get("value"))
    refusal.error |= {"column": error.where.get("column"), "row": row_of(error)}
    return refusal


def row_of(error: DataError) -> int | None:
    """The row, counted from 0, that a DataError is about."""
    found = re.search(r"\brow (\d+)\b", error.problem)
    return int(found[1]) if found else None


def shown(value: object) -> Any:
    """A value as JSON has it; what JSON lacks, and what is long, as text."""
    if value is None or (isinstance(value, bool | int) and abs(value) < 2**63):
        return value
    try:
        text = str(value)
    except (ValueError, RecursionError):  # thousands of digits, or of lists in lists
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def stopping() -> RefusalError:
    """503: what is in hand takes longer than the service waits for at its end."""
    headers = {"Retry-After": "1"}
    return RefusalError(503, "the service stops", remedy="try again later", reason="stopping", headers=headers)


def error_response(status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """The one form of error."""
    content = json.dumps({"error": error}).encode("utf-8", "replace")
    return Response(content, status, headers, media_type="application/json")
