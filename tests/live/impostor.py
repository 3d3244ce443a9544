"""Somebody who says who they are, whatever is asked, and writes down all that is sent to them."""

from __future__ import annotations

import os
import socket
import threading
import time

from trickles_web.transport.keys import Keyring
from trickles_web.transport.private.channel import Credentials, Privacy
from trickles_web.transport.wire import Kind

ROTATION_MS = 86_400_000


class Impostor:
    """A UDP port of the loopback, in a thread of its own."""

    def __init__(self, credentials: Credentials) -> None:
        keyring = Keyring((os.urandom(32),), "impostor", ROTATION_MS, os.urandom)
        self._privacy = Privacy(keyring, credentials, os.urandom)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Impostor:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            datagram, peer = self._socket.recvfrom(65536)
            if not datagram:
                return
            self.heard.append(datagram)
            if datagram[0] & 15 == Kind.IDENTIFY:
                told = self._privacy.told(datagram, time.time_ns() // 1_000_000)
                self._socket.sendto(told, peer)

    def was_only_asked_who(self) -> bool:
        """Did nobody send it anything but the question?"""
        return {datagram[0] & 15 for datagram in self.heard} == {Kind.IDENTIFY}
