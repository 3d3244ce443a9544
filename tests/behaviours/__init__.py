"""What an HTTP server over ASGI does: a table of behaviours, each shown in three ways by both
parsers."""

import pytest

for module in ("requests", "responses", "executions", "open_requests", "websockets"):
    pytest.register_assert_rewrite(f"tests.behaviours.rows_of_{module}")
pytest.register_assert_rewrite("tests.behaviours.ways", "tests.behaviours.apps")
