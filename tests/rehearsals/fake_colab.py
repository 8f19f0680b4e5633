"""Stands in for `google.colab`: the kernel that Colab starts, as far as a notebook notices it.

There, `!command` and `lines = %sx command` run in bash on a terminal, not on pipes: programs may
show progress, colours and whatever else they keep for people.
"""

import codecs
import os
import pty
import subprocess
import sys
import termios

from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.utils.text import LSString, SList
from traitlets import default


class Shell(ZMQInteractiveShell):
    """Runs a cell's commands on a terminal."""

    def system(self, cmd: str) -> None:
        self.user_ns["_exit_code"], _ = on_a_terminal(self.var_expand(cmd, depth=1), shown=True)  # type: ignore[no-untyped-call]

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> SList | LSString:
        _, text = on_a_terminal(self.var_expand(cmd, depth=depth + 1), shown=False)  # type: ignore[no-untyped-call]
        return SList(text.splitlines()) if split else LSString(text)


class Kernel(IPythonKernel):
    """The kernel with that shell."""

    @default("shell_class")
    def _shell_class(self) -> type[Shell]:
        return Shell


def on_a_terminal(command: str, shown: bool) -> tuple[int, str]:
    """Run a command to the end of all that hold its terminal; return its status and its output."""
    ours, theirs = pty.openpty()
    settings = termios.tcgetattr(theirs)
    settings[1] &= ~termios.ONLCR  # a line ends in \n alone
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    process = subprocess.Popen(["bash", "-c", command], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), ""
    try:
        while part := os.read(ours, 65536):
            new = decoder.decode(part)
            text += new
            if shown:
                sys.stdout.write(new)
    except OSError:  # how Linux says that nobody holds it any more
        pass
    finally:
        os.close(ours)
    return process.wait(), text
