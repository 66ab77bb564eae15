"""An upgrade that stops itself after each step that it has written down, for whoever drives it."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agentcom.cli import background

HOOK: Final = """\
import os, signal, sys

noted = False
argv = " ".join(sys.orig_argv)
hub_to_kill = "" if "doctor" in argv or " hub run " not in argv else os.environ.get("KILL_HUB", "")


def hook(event, words):
    global noted
    if noted:  # the step is on the disk, and nothing of it is done yet
        noted = False
        os.kill(os.getpid(), signal.SIGSTOP)
    if event == "os.rename" and "STOP_AT_STEPS" in os.environ:
        noted = os.path.basename(os.fspath(words[1])) == "upgrade.json"
    if event == "socket.bind" and hub_to_kill and not os.path.exists(hub_to_kill):
        os.mkdir(hub_to_kill)
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(hook)
"""
"""Is run by every Python of the office, as its `sitecustomize`."""


class Upgrade:
    """An upgrade that was begun with `STOP_AT_STEPS` and the hook; `step` tells what is written."""

    def __init__(self, process: "subprocess.Popen[str]", step: Callable[[], str]) -> None:
        self.process = process
        self._step = step
        self._stopped = False

    def to(self, step: str) -> None:
        """Go on until `step` is written down, and nothing of it is done."""
        self.go_on()
        while True:
            assert self._stops(), self.process.communicate()
            if self._step() == step:
                return
            self.go_on()

    def go_on(self) -> None:
        """Let it do the step, if it has stopped itself."""
        if self._stopped:
            self._stopped = False
            self.process.send_signal(signal.SIGCONT)

    def killed_in(self, step: str) -> None:
        """Go on until a program works that does `step`, and kill who waits for it."""
        self.to(step)
        self.go_on()
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        assert background.wait_for(lambda: bool(children.read_text()), timeout_s=60), step
        self.kill()

    def kill(self) -> None:
        """Kill it, wherever it is."""
        self.process.kill()
        self.process.communicate()

    def to_its_end(self) -> tuple[int, str]:
        """Go on to the end; return the exit code and what was said."""
        self.go_on()
        while self._stops():
            self.go_on()
        said, _ = self.process.communicate(timeout=300)
        return self.process.returncode, said

    def _stops(self) -> bool:
        """Wait until it has stopped itself (True), or ended."""
        pid = self.process.pid
        seen = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if seen is None or seen.si_code != os.CLD_STOPPED:
            return False
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        self._stopped = True
        return True
