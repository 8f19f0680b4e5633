"""Run a command so that nothing of it outlives the process that asked for it.

    python guard.py SCRATCH GRACE COMMAND [ARGUMENT ...]

Standard input is a pipe whose other end is held by the notebook's kernel alone. However the kernel
ends (shut down, restarted, killed with SIGKILL), the pipe closes, and the guard stops the command:
SIGINT to its main process, as Ctrl-C would, and SIGKILL to its whole process group if it has not
gone after GRACE seconds. SIGTERM to the guard skips the grace. When the command has ended, whatever
is left of its process group is killed, Python's resource tracker last, and the folder SCRATCH
removed.

The exit status is the command's own, or 128 + N if signal N ended it. Standard library only: this
file is run by its path and must start fast.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time


def main(scratch: str, grace: float, command: list[str]) -> int:
    """Run ``command`` until it ends or standard input does; return its exit status."""
    child: subprocess.Popen[bytes] | None = None
    killed = False

    def kill(*_: object) -> None:
        nonlocal killed
        killed = True
        if child:
            kill_group(child.pid, spare_tracker=True)

    def stop_when_the_pipe_closes() -> None:
        sys.stdin.buffer.read()
        assert child
        with contextlib.suppress(OSError):  # it has just gone
            os.killpg(child.pid, signal.SIGCONT)  # it may stand still, and would not hear SIGINT
        child.send_signal(signal.SIGINT)
        time.sleep(grace)
        kill()

    signal.signal(signal.SIGTERM, kill)
    # A shell that starts us in the background has SIGINT ignored, and the command would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        if killed:  # SIGTERM came before there was anything to kill
            kill()
        threading.Thread(target=stop_when_the_pipe_closes, daemon=True).start()
        status = child.wait()
        for turn in range(150):  # until it is empty, or holds only zombies that nobody collects
            if not kill_group(child.pid, spare_tracker=turn < 100):
                break
            time.sleep(0.02)
    except OSError as error:
        print(f"cannot run {os.path.basename(command[0])}: {error.strerror}", flush=True)
        status = 127
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return status if status >= 0 else 128 - status


def kill_group(group: int, spare_tracker: bool) -> bool:
    """Kill a process group; tell whether anything of it was still there.

    Python's resource tracker removes the semaphores of the others from /dev/shm when they have
    gone, and then ends. So it may be spared, where /proc tells which process it is.
    """
    if not (spare_tracker and os.path.exists("/proc/self/cmdline")):
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            return False
        return True
    found = False
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.getpgid(int(pid)) == group and b") Z " not in read(f"/proc/{pid}/stat"):
                found = True
                if b"multiprocessing.resource_tracker" not in read(f"/proc/{pid}/cmdline"):
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:  # it has just gone
            pass
    return found


def read(path: str) -> bytes:
    """Return what a file holds."""
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    code = main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
    os._exit(code)  # the watching thread may be in a read that sys.exit() would wait for
