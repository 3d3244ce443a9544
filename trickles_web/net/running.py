"""What runs a configuration: this process, or a supervisor and workers."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

from trickles_web.net import systemd
from trickles_web.net.options import Config
from trickles_web.net.secret import ENVIRONMENT, load_secrets
from trickles_web.net.server import Server
from trickles_web.net.supervisor import Supervisor


def serve(config: Config) -> int:
    """Until it is told to end; the exit code. The process is its own. Raises UsageError."""
    config.configure_logging()
    if config.fd is None:
        config = replace(config, fd=systemd.passed_descriptor())
    if config.supervised:
        return Supervisor(config).run()
    secrets = load_secrets(config.service_name, config.secret_file)
    os.environ.pop(ENVIRONMENT, None)  # the application's own children inherit it
    return Server(config, secrets=secrets).run()


def run(app: Any, **options: Any) -> None:
    """Serves `app` as `uvicorn.run` does; options are the fields of Config."""
    code = serve(Config(app=app, **options))
    if code:
        sys.exit(code)
