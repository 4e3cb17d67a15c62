"""One training at a time in a run's folder.

Two would write the same checkpoints and both believe that they succeed. `lock.json` names the
process that trains. A lock of a process that is gone must not keep a requeued job from starting,
and a process may be gone with its machine; so the owner rewrites the file every few seconds, and
who finds a lock of another machine watches it for a while. No clocks are compared.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sleeplm_jax.errors import CheckpointError
from sleeplm_jax.files import TEMPORARY, write_atomically
from sleeplm_jax.places import Place, RemotePath

NAME = "lock.json"
BEAT_S = 10.0
LAPSE_S = 40.0  # a lock that does not change for so long is of a dead owner
SETTLE_S = 1.0  # who takes over a lock, or locks a store, looks once more after this


class RunLock:
    """Holds a run's folder for this process while active.

    Raises CheckpointError when a living process has it: one of this machine by its process id and
    start, one of another by its beats, which takes up to LAPSE_S to see (`say` tells). A process
    that finds its lock taken over (it was stopped for longer than that) ends with status 2.
    """

    def __init__(
        self, folder: Place, say: Callable[[str], None] = print, enabled: bool = True, *,
        beat: float = BEAT_S, lapse: float = LAPSE_S,
    ):
        self._enabled = enabled  # of several processes one holds it for all
        self._path, self._folder, self._say = folder / NAME, folder, say
        self._beat, self._lapse = beat, lapse
        self._own = {"token": secrets.token_hex(8), "host": socket.gethostname(),
                     "pid": os.getpid(), "process": _process(os.getpid()), "machine": _machine()}
        self._beats = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lock", daemon=True)

    def __enter__(self) -> RunLock:
        if not self._enabled:
            return self
        found = self._read()
        if found is not None:
            self._refuse_living(found)
            self._say(f"note: taking over {self._folder} from process {found.get('pid')} on "
                      f"{found.get('host')}, which is gone")
            self._write()
        elif isinstance(self._path, RemotePath):
            self._write()
        elif not self._create():  # two at the same moment
            raise self._taken(self._read() or {})
        if found is not None or isinstance(self._path, RemotePath):
            time.sleep(SETTLE_S)  # two may have taken it over; the last one has it
            now = self._read()
            if (now or {}).get("token") != self._own["token"]:
                raise self._taken(now or {})
        self._thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self.release()

    def release(self) -> None:
        if not self._enabled:
            return
        self._over.set()
        self._thread.join(self._beat)
        try:
            if (self._read() or {}).get("token") == self._own["token"]:
                self._path.unlink(missing_ok=True)
        except OSError:
            pass  # it lapses by itself

    def _refuse_living(self, found: dict) -> None:
        if found.get("machine") == self._own["machine"]:
            if _process(found.get("pid")) == found.get("process") is not None:
                raise self._taken(found)
            return
        self._say(f"{self._folder} was trained by process {found.get('pid')} on "
                  f"{found.get('host')}: watching for {self._lapse:.0f} s whether it lives")
        deadline = time.monotonic() + self._lapse
        while time.monotonic() < deadline:
            time.sleep(min(self._beat / 2, self._lapse / 4))
            now = self._read()
            if now is None:  # it ended meanwhile
                return
            if now != found:
                raise self._taken(now)

    def _taken(self, found: dict) -> CheckpointError:
        return CheckpointError(
            self._folder, f"is being trained by process {found.get('pid', 'unknown')} on "
            f"{found.get('host', 'another machine')}",
            "wait for it, end it, or give --name for another run",
        )

    def _keep(self) -> None:
        while not self._over.wait(self._beat):
            try:
                found = self._read()
                if found is not None and found.get("token") != self._own["token"]:
                    print(f"sleeplm: {self._taken(found)}; it took over while this process was "
                          "stopped", file=sys.stderr, flush=True)
                    os._exit(2)
                self._beats += 1
                self._write()
            except Exception as error:  # a full disk: training itself says so when it saves
                print(f"sleeplm: note: {self._path} cannot be renewed "
                      f"({type(error).__name__}: {str(error)[:200]})", file=sys.stderr, flush=True)

    def _text(self) -> str:
        return json.dumps(self._own | {"beats": self._beats}) + "\n"

    def _create(self) -> bool:
        """Makes the lock of a folder of this machine, whole at once; False where there is one."""
        whole = self._path.with_name(f"{TEMPORARY}{self._own['token']}-{NAME}")
        try:
            whole.write_text(self._text())
            os.link(whole, self._path)
        except FileExistsError:
            return False
        except OSError:  # a disk without links
            self._write()
        finally:
            whole.unlink(missing_ok=True)
        return True

    def _write(self) -> None:
        write_atomically(self._path, self._text().encode())

    def _read(self) -> dict | None:
        """The lock as it is; {} for one that cannot be read, None without one."""
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def _machine() -> str:
    """This machine since it started, and this container: where a process id means something."""
    parts = [socket.gethostname()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
                 lambda: str(os.stat("/proc/self/ns/pid").st_ino)):
        try:
            parts.append(read())
        except OSError:  # not Linux
            parts.append("")
    return " ".join(parts)


def _process(pid: object) -> str | None:
    """Id and start of a living process of this machine; None where there is none."""
    if not isinstance(pid, int):
        return None
    try:
        # The name, in brackets, may hold anything; state and start are the 3rd and 22nd fields.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{pid} {fields[19]}"
    except OSError:
        if os.path.isdir("/proc/self"):
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return str(pid)
