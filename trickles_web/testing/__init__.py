"""Tests of applications over Trickles: a simulated network, and the pytest plugin that uses it."""
