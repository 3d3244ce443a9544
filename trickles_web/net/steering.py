"""Which of several sockets on one UDP port gets a datagram.

Workers that share a port join one SO_REUSEPORT group. The kernel would spread datagrams by a hash
of the addresses, so a client whose port changes would meet another worker, with another replay
filter and other soft state. A classic BPF program attached to the group chooses instead: by the
flow id, so that a flow meets one worker wherever it comes from. For UDP the program's offset 0 is
the payload's first byte.

The program returns an index into the group, in the order of binding. When a worker dies the group's
last socket takes its place, and an index beyond the end falls back to the kernel's hash; so every
datagram finds a living worker, and some flows change theirs. That costs soft state only.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import struct

logger = logging.getLogger("trickles.error")

SO_ATTACH_REUSEPORT_CBPF = 51

FLOW_WORD = 3
"""The flow id is bytes 1 to 9 of every client datagram; this is its middle 32-bit word."""

# <linux/bpf_common.h>, <linux/filter.h>
_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_RETURN = 0x16  # BPF_RET | BPF_A
_ANCILLARY_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM

_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")

Program = list[tuple[int, int]]
"""Pairs (operation, operand); none of ours jumps."""


def steer_by_flow(sockets: int) -> Program:
    """Socket number flow id modulo `sockets`; the first for what is too short to have a flow id."""
    return [(_LOAD_WORD, FLOW_WORD), (_MODULO, sockets), (_RETURN, 0)]


def steer_at_random(sockets: int) -> Program:
    """Every datagram to any of `sockets`: how to show that any replica serves any packet."""
    return [(_LOAD_WORD, _ANCILLARY_RANDOM), (_MODULO, sockets), (_RETURN, 0)]


def attach(sock: socket.socket, program: Program) -> bool:
    """Sets the program of the group that the bound `sock` belongs to; the last one set rules.

    A kernel that refuses keeps its own hashing: a warning, and False.
    """
    code = b"".join(_INSTRUCTION.pack(operation, 0, 0, operand) for operation, operand in program)
    memory = ctypes.create_string_buffer(code, len(code))
    try:
        sock.setsockopt(
            socket.SOL_SOCKET,
            SO_ATTACH_REUSEPORT_CBPF,
            _PROGRAM.pack(len(program), ctypes.addressof(memory)),
        )
    except OSError as error:
        logger.warning(
            "The kernel refuses to steer datagrams (%s); its own hashing spreads them",
            error.strerror,
        )
        return False
    return True
