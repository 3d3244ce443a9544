"""The files of $LOADTEST_FILES by Starlette's StaticFiles: what people serve files with."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from loadtest.application import FILES

app = Starlette(routes=[Mount("/", StaticFiles(directory=os.environ[FILES], html=True))])
