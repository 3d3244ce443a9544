"""A worker: a server process that a supervisor has started.

    python -m trickles_web.net.worker DESCRIPTOR

What to serve it reads from its end of the supervisor's channel: arguments are for every user of the
machine to see.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from trickles_web.errors import UsageError
from trickles_web.net.children import LARGEST_MESSAGE, READY, WORN, Link, pong
from trickles_web.net.options import Config
from trickles_web.net.server import Server


def command(descriptor: int) -> list[str]:
    """Its command line."""
    return [sys.executable, "-m", "trickles_web.net.worker", str(descriptor)]


def told(config: Config, secrets: Sequence[bytes]) -> bytes:
    """The first message to it. Raises UsageError."""
    message = json.dumps([config.to_json(), [secret.hex() for secret in secrets]]).encode()
    if len(message) > LARGEST_MESSAGE // 2:
        raise UsageError("the configuration is too long for workers; is it the log's?")
    return message


def main(descriptor: str) -> int:
    """The exit code. Errors of use are one line on stderr, and code 2."""
    link = Link(int(descriptor))
    options, secrets = json.loads(link.told())
    config = Config.from_json(options)
    config.configure_logging()
    server = Server(
        config,
        secrets=[bytes.fromhex(secret) for secret in secrets],
        on_started=lambda: link.say(READY),
        on_worn=lambda: link.say(WORN),
    )
    link.live(server.counted, pdeathsig="pdeathsig" not in config.without)
    try:
        return server.run()
    except UsageError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        link.say(pong(server.counted()))  # the last word counts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
