"""All rows of the table."""

from __future__ import annotations

from tests.behaviours import (
    rows_of_executions,
    rows_of_open_requests,
    rows_of_requests,
    rows_of_responses,
    rows_of_websockets,
)

ROWS = [
    *rows_of_requests.ROWS,
    *rows_of_responses.ROWS,
    *rows_of_executions.ROWS,
    *rows_of_open_requests.ROWS,
    *rows_of_websockets.ROWS,
]
