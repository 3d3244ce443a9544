"""What a request says, to be compared: all that was read of it but the body."""

from __future__ import annotations

import inspect

from trickles_web.http.request import Request

NAMES = [
    name
    for name, member in vars(Request).items()
    if inspect.isdatadescriptor(member) and not name.startswith("__") and name != "body"
]
"""Slots are data descriptors, whether the class is compiled or not."""


def said(request: Request) -> dict[str, object]:
    return {name: getattr(request, name) for name in NAMES}
