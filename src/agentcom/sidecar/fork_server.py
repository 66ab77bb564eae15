"""The fork server: a small program that is forked for each attempt, to become its supervisor.

To start Python and load its modules takes longer than all that a supervisor does before its agent
runs. So a sidecar keeps one process that has done that. It ends with its sidecar, at the end of its
standard input; the supervisors, which belong to nobody, stay. Standard library only.
`supervisors.py` is the sidecar's side.

    standard input   one order a line: [NUMBER, FOLDER] in JSON
    standard output  one answer a line: `NUMBER CODE`, what `supervise.main` returned there
"""

import codecs
import contextlib
import gc
import json
import os
import select
import signal
import sys
from typing import Final, NoReturn

from agentcom.sidecar import attempt_files, reaping, supervise

BROKEN: Final = 2
"""The answer where a supervisor ended before it could say anything."""

_INPUT: Final = 0
_OUTPUT: Final = 1
_ERRORS: Final = 2
_CHUNK_BYTES: Final = 65_536


class Server:
    """Forks for each order, and answers it when that child has ended."""

    def __init__(self) -> None:
        self._signals = reaping.catch_signals()
        self._numbers: dict[int, int] = {}
        self._pending = b""

    def run(self) -> None:
        """Obey until nobody gives orders any more, or SIGTERM."""
        signals = self._signals.fileno()
        while True:
            readable, _, _ = select.select([_INPUT, signals], [], [])
            if signals in readable:
                if signal.SIGTERM in self._signals.recv(_CHUNK_BYTES):
                    return
                self._bury()
            if _INPUT in readable:
                data = os.read(_INPUT, _CHUNK_BYTES)
                if not data:
                    return
                *orders, self._pending = (self._pending + data).split(b"\n")
                for order in orders:
                    self._obey(order)

    def _obey(self, order: bytes) -> None:
        number, folder = json.loads(order)
        try:
            pid = os.fork()
        except OSError:
            _answer(number, BROKEN)
            return
        if not pid:
            self._become_supervisor(folder)
        self._numbers[pid] = number

    def _become_supervisor(self, folder: str) -> NoReturn:
        code = BROKEN
        try:
            reaping.leave_signals(self._signals)
            null = os.open(os.devnull, os.O_RDWR)
            log = os.open(f"{folder}/{attempt_files.LOG}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for opened, standard in ((null, _INPUT), (null, _OUTPUT), (log, _ERRORS)):
                os.dup2(opened, standard)
            os.closerange(_ERRORS + 1, log + 1)
            code = supervise.main(folder)
        except BaseException:  # noqa: BLE001 - the process ends here, and its log says why
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _bury(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            _answer(self._numbers.pop(pid), code if code >= 0 else BROKEN)


def _answer(number: int, code: int) -> None:
    os.write(_OUTPUT, b"%d %d\n" % (number, code))


def main() -> None:
    """Serve the sidecar that started this."""
    codecs.lookup("ascii")  # else each supervisor loads it anew
    gc.freeze()
    with contextlib.suppress(BrokenPipeError):  # the sidecar is gone
        Server().run()


if __name__ == "__main__":
    main()
