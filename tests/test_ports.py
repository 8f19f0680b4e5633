"""Blocks of ports that no two processes get at the same time."""

import socket
import subprocess
import sys

import pytest

from helpers.ports import HOST, reserve

FEW = range(26_970, 27_000, 10)  # of the last block of a Ray: its other ports matter to nobody here


def test_no_two_processes_get_the_same_block() -> None:
    code = f"from helpers.ports import reserve; print(reserve({FEW!r}), flush=True); input()"
    start = [sys.executable, "-c", code]
    with subprocess.Popen(
        start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as another:
        assert another.stdin and another.stdout
        theirs = int(another.stdout.readline())
        ours = [reserve(FEW) for _ in FEW[1:]]
        assert sorted([theirs, *ours]) == list(FEW)
        with pytest.raises(OSError, match="no free block of ports between 26970"):
            reserve(FEW)
        another.stdin.close()
    assert reserve(FEW) == theirs


def test_a_block_with_a_server_in_it_is_left_out() -> None:
    blocks = range(26_950, 26_970, 10)
    with socket.socket() as server:
        server.bind((HOST, 26_957))
        assert reserve(blocks) == 26_960
    assert reserve(blocks) == 26_950
