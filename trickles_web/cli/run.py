"""trickles-run: runs a program whose HTTP requests then go over Trickles.

This process becomes the program, as that of `env` does: signals, the terminal and the exit code are
the program's own. Before that it leaves a proxy behind, in a process that is nobody's child (else a
program that waits for its children would wait for that, too) and in no terminal's session (else
Ctrl-C would end it first). The proxy ends when the program does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

import trickles_web
from trickles_web.cli.gateway import (
    ONLY_HELP,
    PROXY_USER,
    affordable,
    loop_factory,
    places_of,
    replicas_of,
)
from trickles_web.cli.trusting import PRIVATE_HELP, Trusting, trusting
from trickles_web.config import ClientConfig
from trickles_web.errors import UsageError
from trickles_web.listening import BACKLOG, MAX_CONNECTIONS
from trickles_web.proxy.proxy import Proxy, ProxyConfig

PROGRAM = "trickles-run"
LOOPBACK = "127.0.0.1"
CANNOT_EXECUTE = 126
NOT_FOUND = 127
"""Exit codes, as the shell and `env` have them."""
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
"""Set in capitals, too: some programs know only these, some only those."""
EXCEPTIONS = ("no_proxy", "NO_PROXY")
"""Name hosts that programs ask without a proxy, often the loopback."""
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns only if the program could not be started: 127 if there is none of the
    name, 126 if it cannot be executed, 2 for what the user must put right."""
    try:
        result = command.main(args=argv, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except UsageError as error:
        return _complain(str(error), 2)
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0


def _complain(message: str, code: int) -> int:
    click.echo(f"{PROGRAM}: {message}", err=True)
    return code


@click.command(
    context_settings={
        "auto_envvar_prefix": "TRICKLES_RUN",
        "allow_interspersed_args": False,
        "show_default": True,
    }
)
@click.argument("words", metavar="COMMAND [ARGS...]", nargs=-1, required=True)
@click.option("--only", multiple=True, metavar="HOST[:PORT]", help=ONLY_HELP)
@click.option(
    "--replica",
    multiple=True,
    metavar="HOST:PORT",
    help="Server of a service that others have, too; give it for all of them, and a request to one "
    "goes to any, and goes on at another when that is silent.",
)
@click.option("--private", is_flag=True, help=PRIVATE_HELP)
@trusting()
@click.option(
    "--connect-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=ClientConfig().connect_timeout_s,
    metavar="SECONDS",
    help="How long a server may take to answer for the first time.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not say why requests failed.")
@click.version_option(
    trickles_web.__version__, "-V", "--version", prog_name=PROGRAM, allow_from_autoenv=False
)
def command(
    words: tuple[str, ...],
    only: tuple[str, ...],
    replica: tuple[str, ...],
    private: bool,
    trusting: Trusting,
    connect_timeout: float,
    quiet: bool,
) -> int:
    """Run a program (curl, wget, git, pip ...), its HTTP requests going over Trickles.

    They go to UDP ports: http://HOST:PORT/ is asked of the trickles-serve there. It works with any
    program that obeys http_proxy.
    """
    client = ClientConfig(replicas=replicas_of(replica), connect_timeout_s=connect_timeout)
    if private or trusting.given:
        client = trusting.private(client)
    password = secrets.token_urlsafe(24)
    config = ProxyConfig(
        f"{PROXY_USER}:{password}".encode(),
        places_of(only),
        client=client,
    )
    try:
        with socket.create_server((LOOPBACK, 0), backlog=BACKLOG) as listener:
            _leave_behind(config, listener, logging.CRITICAL if quiet else logging.WARNING)
            port = listener.getsockname()[1]
    except OSError as error:
        raise UsageError(f"cannot start a proxy: {error.strerror}") from None
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(
            words[0], words, environment(f"http://{PROXY_USER}:{password}@{LOOPBACK}:{port}")
        )
    except FileNotFoundError:
        return _complain(f"{words[0]}: no such program", NOT_FOUND)
    except OSError as error:
        return _complain(f"{words[0]}: cannot be executed: {error.strerror}", CANNOT_EXECUTE)


def environment(proxy: str) -> dict[str, str]:
    """That of the program: this one's, and where the proxy is."""
    kept = {name: value for name, value in os.environ.items() if name not in EXCEPTIONS}
    names = (*PROXY_VARIABLES, *(name.upper() for name in PROXY_VARIABLES))
    return kept | dict.fromkeys(names, proxy) | {"NODE_USE_ENV_PROXY": "1"}


def _leave_behind(config: ProxyConfig, listener: socket.socket, log_level: int) -> None:
    """Start the proxy of this process, which is to become the program. Raises OSError."""
    with open(os.pidfd_open(os.getpid()), "rb", buffering=0) as program:
        child = os.fork()
        if child == 0:
            failed = 1
            try:
                os.setsid()
                if os.fork() == 0:
                    _be_the_proxy(config, listener, program.fileno(), log_level)
                failed = 0
            finally:
                os._exit(failed)
        if os.waitpid(child, 0)[1]:
            raise OSError(errno.EAGAIN, "no further process may be started")


def _be_the_proxy(
    config: ProxyConfig, listener: socket.socket, program: int, log_level: int
) -> NoReturn:
    """Whatever happens, the code of the other process does not run here."""
    try:
        # Here, for the program's limit on descriptors is not to be raised with ours.
        config = dataclasses.replace(config, max_connections=affordable(MAX_CONNECTIONS))
        _close_inherited(keep={listener.fileno(), program})
        logging.basicConfig(format=f"{PROGRAM}: %(message)s", level=log_level)
        with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
            runner.run(_serve(config, listener, program))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _close_inherited(keep: set[int]) -> None:
    """A pipe is not at its end, nor a lock free, as long as somebody has it. stderr stays."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    opened = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    for descriptor in opened:
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)


async def _serve(config: ProxyConfig, listener: socket.socket, program: int) -> NoReturn:
    """Until the program has ended. Then at once, for who reads stderr waits for us: not for a
    thread, say, that looks up a name."""
    listener.setblocking(False)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(program, ended.set)
    proxy = Proxy(config)
    proxy.start([listener])
    await ended.wait()
    await proxy.close()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
