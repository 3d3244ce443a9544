"""Seeing a transfer: its datagrams are recorded, and told again as text and as a plot."""
