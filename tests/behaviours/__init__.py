"""What an HTTP server over ASGI does: a table of behaviours, each shown in three ways by both
parsers."""

import pytest

for module in ("ways", "apps", "rows_of_requests", "rows_of_responses", "rows_of_executions"):
    pytest.register_assert_rewrite(f"tests.behaviours.{module}")
