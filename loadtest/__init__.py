"""Measurements with real processes: `python -m loadtest SCENARIO`.

Every scenario starts what it needs, on the loopback or in network namespaces of its own, and ends
it again. It prints a table and whether its targets were met.
"""
