"""Ports that nobody else takes, neither another server nor a connection that goes out."""

import random
import socket

HOST = "127.0.0.1"
# Linux takes the ports from 32,768 on for connections that go out, of which a Ray makes hundreds:
# one that is free up there when we choose it need not be so when a server listens, seconds later.
# Those from 10,002 to 19,999 are what `ray start` gives to its workers.
OF_A_RAY = range(20_000, 27_000, 100)
OF_A_SERVER = range(27_000, 32_700, 5)

_reservations: list[socket.socket] = []


def reserve(blocks: range) -> int:
    """Choose a block of ports of which none is in use, and reserve it until this process ends.

    Parameters
    ----------
    blocks : range
        The first ports of the blocks, which are as long as its step.

    Returns
    -------
    int
        The first port of one. Until this process ends, no other one that asks gets that block.

    Raises
    ------
    OSError
        If all blocks are taken.
    """
    for first in random.sample(blocks, len(blocks)):
        # Over UDP, which no server here uses, so that they can still listen over TCP.
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reservation.bind((HOST, first))
            for port in range(first, first + blocks.step):
                with socket.socket() as probe:
                    probe.bind((HOST, port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return first
    raise OSError(f"There is no free block of ports between {blocks[0]} and {blocks.stop}.")
