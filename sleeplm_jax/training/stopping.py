"""Being asked to stop: a flag read between steps, never an exception in the middle of one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

import jax

from sleeplm_jax.parallel.asked import Asked

# A person's Ctrl-C; a scheduler's end; SLURM's warning before it; a terminal that was closed.
HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopRequest:
    """While active, SIGINT, SIGTERM, SIGUSR1 (SLURM's warning before a job's end) and SIGHUP ask
    training to stop, in all its processes, instead of killing this one.

    An exception inside a step could leave the donated state unreadable. Signals are read by a
    thread, since Python runs handlers in the main thread, which compiles for minutes or waits in a
    collective. Schedulers repeat themselves, so a second SIGTERM changes nothing. A second Ctrl-C
    ends the process without saving: as KeyboardInterrupt where it is the only one (a notebook's
    survives that), at once where it is one of several. Before the first step there is nothing to
    save, and the process ends as soon as it is asked.

    A signal that is ignored when training starts (nohup) stays ignored.
    """

    def __init__(self):
        self._alone = jax.process_count() == 1
        self._shared = Asked(self._leave)
        self._interrupts = 0  # as the main thread counts them
        # Called before a process ends that was asked to stop while it still compiled.
        self.last_words: Callable[[], None] = lambda: None

    def __enter__(self) -> StopRequest:
        self._before = {}
        self._shared.__enter__()
        self._hears = threading.current_thread() is threading.main_thread()  # Python's rule
        if not self._hears:
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()
        for number in HEARD:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._in_main_thread)
        return self

    def __exit__(self, *exc) -> None:
        if self._hears:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.write(self._write, b"\0")
            self._thread.join()
            os.close(self._read)
            os.close(self._write)
        self._shared.__exit__(*exc)

    def asked(self) -> int:
        """The signal to stop on now, 0 to go on; the same on every process.

        All processes must ask at the same points.
        """
        return int(self._shared.poll() or 0)

    def _in_main_thread(self, number: int, frame) -> None:
        """Python's handler; without one the signal would not be ours."""
        if number == signal.SIGINT and self._alone:
            self._interrupts += 1
            if self._interrupts > 1 or not self._shared.begun:
                raise KeyboardInterrupt

    def _listen(self) -> None:
        interrupts = 0
        while True:
            for number in os.read(self._read, 64):
                if number == 0:
                    return
                if number not in self._before:  # another library's signal
                    continue
                name = signal.Signals(number).name
                interrupts += number == signal.SIGINT
                if interrupts > (2 if self._alone else 1):
                    _say(f"{name} again: ending without saving")
                    os._exit(128 + number)
                if number == signal.SIGINT and self._alone and not self._shared.begun:
                    continue  # KeyboardInterrupt, above
                if interrupts < 2:
                    _say(f"{name}: stopping after this step, then saving"
                         + ("; again: at once" if number == signal.SIGINT else ""))
                # Of all but a person's signals the status is SIGTERM's: "stopped, saved".
                told = number if number in (signal.SIGINT, signal.SIGHUP) else signal.SIGTERM
                self._shared.ask(str(int(told)))

    def _leave(self, request: str) -> None:
        """Ends the process before its first step."""
        with contextlib.suppress(Exception):
            self.last_words()
        _say("stopped before the first step; nothing new to save")
        sys.stdout.flush()
        os._exit(128 + int(request))


def _say(line: str) -> None:
    of = f"rank {jax.process_index()}: " if jax.process_count() > 1 else ""
    print(f"sleeplm: {of}{line}", file=sys.stderr, flush=True)
