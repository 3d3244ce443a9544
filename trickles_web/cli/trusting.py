"""Options about whom to believe, named alike in all commands that open flows; as curl's, where curl
has one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import click

from trickles_web.client.trust import check
from trickles_web.client.url import Url
from trickles_web.config import PRIVATE_SCHEME, ClientConfig, Trust
from trickles_web.errors import UsageError

PRIVATE_HELP = "Ask by private flows; so does any option that says whom to believe."
Command = Callable[..., Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Trusting:
    """What they say."""

    trust: Trust = dataclasses.field(default_factory=Trust)
    post_quantum: bool = False

    @property
    def given(self) -> bool:
        """Do they say anything?"""
        return self != Trusting()

    def private(self, config: ClientConfig, pin: str | None = None) -> ClientConfig:
        """The same for private flows. pin: what a URL names. Raises UsageError."""
        trust = self.trust if pin is None else dataclasses.replace(self.trust, pin=pin)
        check(trust)
        return dataclasses.replace(config, private=trust, post_quantum=self.post_quantum)

    def config_for(self, url: Url, config: ClientConfig) -> ClientConfig:
        """The same for the flows of this URL. Raises UsageError."""
        return self.private(config, url.pin) if url.private else config


def trusting(*names_of_pin: str) -> Callable[[Command], Command]:
    """A command that has the options, and takes what they say as its argument `trusting`.

    names_of_pin: further ones.
    """
    options = (
        click.option(
            "--cacert", metavar="FILE", help="Certificates (PEM) to believe; else the system's."
        ),
        click.option("-k", "--insecure", is_flag=True, help="Believe anybody, but for --pin."),
        click.option(
            "--pin",
            *names_of_pin,
            metavar="sha256//HASH",
            help="Believe the server that has this key, whoever vouches for it or not.",
        ),
        click.option(
            "--known-hosts",
            metavar="FILE",
            help="Believe a server that has the key it had before, by this file; a new one, too.",
        ),
        click.option(
            "--post-quantum",
            is_flag=True,
            help="Agree on secrets by ML-KEM-768, too; only with servers that offer it.",
        ),
    )

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def trusting(
            *arguments: Any,
            cacert: str | None,
            insecure: bool,
            pin: str | None,
            known_hosts: str | None,
            post_quantum: bool,
            **others: Any,
        ) -> Any:
            said = Trusting(_trust(cacert, insecure, pin, known_hosts), post_quantum)
            return command(*arguments, trusting=said, **others)

        for option in reversed(options):
            option(trusting)
        return trusting

    return decorate


def _trust(cacert: str | None, insecure: bool, pin: str | None, known_hosts: str | None) -> Trust:
    """Raises click.UsageError."""
    trust = Trust(pin, insecure, known_hosts, cacert)
    if known_hosts is not None and cacert is not None:
        raise click.UsageError("--known-hosts and --cacert: give one of them")
    try:
        if trust != Trust():
            check(trust)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    return trust


def only_for_private(url: Url, trusting: Trusting) -> None:
    """Raises UsageError where what was said would not count."""
    if trusting.given and not url.private:
        raise UsageError(
            f"whom to believe is a question of private flows: {PRIVATE_SCHEME}://{url.authority}"
        )
