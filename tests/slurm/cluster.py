"""A real SLURM of two nodes on this machine, for as long as a test or a command runs.

    python tests/slurm/cluster.py FOLDER -- COMMAND ...

starts munged, slurmctld and two slurmd in FOLDER, runs COMMAND with SLURM_CONF set, and takes all
down again; its status is COMMAND's. Needs root, and the Debian packages slurm-wlm and munge
(`--install` has apt-get install them). Nothing outside FOLDER is touched but /etc/hosts, which
names the nodes meanwhile: what SLURM calls a node is what its tasks call the coordinator.

Two partitions: `low`, whose jobs those of `high` preempt; these are told to end (SIGTERM) and are
requeued when the grace time is over, or when they ended by themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NODES = 2
PACKAGES = ("slurm-wlm", "munge")
DAEMONS = ("munged", "slurmctld", "slurmd")
CPUS = 2  # of each node; they share the machine's
DEVICES = ("/dev/null", "/dev/zero")  # stand for GPUs: SLURM counts device files
MARK = "# sleeplm's test nodes"
HOSTS = Path("/etc/hosts")
PATIENCE_S = 60.0
LONGEST_SOCKET = 100  # bytes of its path; Linux takes 107
# What differs from a cluster's usual values: requeued jobs wait for their old credentials to
# expire (120 s), a node that is gone is noticed after 5 minutes, SIGKILL comes 30 s after SIGTERM.
CONF = """\
ClusterName=sleeplm
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,bf_continue
KillWait={kill_wait}
MinJobAge=600
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime={grace} MaxTime=INFINITE
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE
"""


def missing() -> str | None:
    """Why no cluster can be started here, or None."""
    absent = [name for name in DAEMONS if found(name) is None]
    if os.geteuid() != 0:
        return "not root"
    if absent:
        return f"no {', '.join(absent)}: apt-get install {' '.join(PACKAGES)}"
    return None


def found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def install() -> str | None:
    """Has apt-get install the packages; why that is not possible, or None."""
    if missing() is None:
        return None
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("apt-get") is None:
        return "no apt-get here"
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    line = ["apt-get", "install", "-y", "-qq", "-o", "DPkg::Lock::Timeout=60",
            "--no-install-recommends", *PACKAGES]
    said = ""
    for command in (line, ["apt-get", "update", "-qq"], line):  # lists may be absent or old
        try:
            done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=150)
        except subprocess.TimeoutExpired:
            return f"{' '.join(command[:2])}: no answer within 150 s"
        said = " ".join(done.stderr.split())[-300:]
        if command is line and done.returncode == 0:
            return missing()
    return f"apt-get: {said}"


class Cluster:
    """The daemons in `folder`; `environment` is what a client needs to reach them."""

    def __init__(self, folder: Path, *, grace_s: int = 60, kill_wait_s: int = 30,
                 gpus: int = 0):
        self.folder = folder.resolve()
        self.nodes = tuple(f"sleeplm-{os.getpid()}-{number}" for number in range(1, NODES + 1))
        self.environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._settings = {"grace": grace_s, "kill_wait": kill_wait_s}
        self._gpus = gpus
        self._running: list[subprocess.Popen] = []

    def __enter__(self) -> Cluster:
        reason = missing()
        if reason:
            raise RuntimeError(f"no SLURM here: {reason}")
        try:
            self._configure()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc) -> None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.run("scancel", "--full", "--user=root", check=False)
            self._until(lambda: not self.run("squeue", "-h", check=False), 15)
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self._running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        name_hosts((), self.nodes)

    @property
    def processes(self) -> list[int]:
        """Ids of the daemons."""
        return [process.pid for process in self._running]

    def run(self, *command: str, check: bool = True) -> str:
        """What a client of SLURM answers."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True,
                              timeout=PATIENCE_S)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def logs(self) -> str:
        """The ends of the daemons' logs, for a failure's message."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-25:])
            for path in sorted(self.folder.glob("*.log"))
        )

    def _configure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if len(os.fsencode(self.folder / "munge.socket")) > LONGEST_SOCKET:
            raise RuntimeError(f"{self.folder}: too long a path for a socket; give a shorter one")
        for name in ("state", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(exist_ok=True)
        host = socket.gethostname().partition(".")[0]
        ports = free_ports(NODES + 1)
        gpus = f" Gres=gpu:{self._gpus}" if self._gpus else ""
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
            f"RealMemory=2000 State=UNKNOWN{gpus}" for node, port in zip(self.nodes, ports[1:])
        )
        (self.folder / "slurm.conf").write_text(CONF.format(
            host=host, controller=ports[0], folder=self.folder, nodes=nodes, **self._settings,
        ))
        (self.folder / "gres.conf").write_text(
            "".join(f"Name=gpu File={path}\n" for path in DEVICES[: self._gpus])
        )
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        name_hosts(self.nodes)

    def _start(self) -> None:
        at = self.folder
        self._daemon("munged", "--foreground", "--force", f"--socket={at}/munge.socket",
                     f"--key-file={at}/munge.key", f"--pid-file={at}/munged.pid",
                     f"--seed-file={at}/munged.seed", f"--log-file={at}/munged.log")
        self._wait(lambda: (at / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-i", "-f", f"{at}/slurm.conf")
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node, "-f", f"{at}/slurm.conf")
        self._wait(
            lambda: self.run("sinfo", "-h", "-N", "-p", "low", "-o", "%T", check=False).split()
            == ["idle"] * NODES, "both nodes idle",
        )

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.said.log").open("ab") as log:
            self._running.append(subprocess.Popen(
                [found(name), *arguments], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=self.folder,
            ))

    def _wait(self, condition, what: str) -> None:
        if not self._until(condition, PATIENCE_S):
            raise RuntimeError(f"not within {PATIENCE_S:.0f} s: {what}\n{self.logs()}")

    def _until(self, condition, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or any(p.poll() is not None for p in self._running):
                return False
            time.sleep(0.2)
        return True


def name_hosts(names: tuple[str, ...], gone: tuple[str, ...] = ()) -> None:
    """Has /etc/hosts name `names` as this machine, and `gone` no longer."""
    before = HOSTS.read_text()
    lines = [line for line in before.splitlines()
             if MARK not in line or not set(line.split()) & {*names, *gone}]
    if names:
        lines.append(f"127.0.0.1 {' '.join(names)} {MARK}")
    after = "\n".join(lines) + "\n"
    if after != before:
        HOSTS.write_text(after)  # in place: a container mounts the file itself


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        taken = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--install", action="store_true", help="have apt-get install the packages")
    parser.add_argument("--grace", type=int, default=60, help="seconds from SIGTERM to requeue")
    parser.add_argument("--kill-wait", type=int, default=30, help="seconds from SIGTERM to SIGKILL")
    parser.add_argument("--gpus", type=int, default=0, choices=(0, 1, 2),
                        help="GPUs that each node says it has")
    parser.add_argument("folder", nargs="?", type=Path, help="for configuration, state and logs")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND ...")
    options = parser.parse_args()
    reason = install() if options.install else missing()
    if reason:
        print(f"no SLURM here: {reason}")
        return 3
    if options.folder is None:
        return 0
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("give a command after FOLDER --")
    with Cluster(options.folder, grace_s=options.grace, kill_wait_s=options.kill_wait,
                 gpus=options.gpus) as cluster:
        return subprocess.run(command, env=cluster.environment).returncode


if __name__ == "__main__":
    sys.exit(main())
