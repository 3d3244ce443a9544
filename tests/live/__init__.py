"""Tests with real processes, from the command line to the last byte."""

import pytest

pytest.register_assert_rewrite("tests.live.stage")
