"""What SLURM knows of jobs, and what their ranks said: `watch` and `logs` of slurm.py."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time

WAITING = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED",
           "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")


class Unknown(Exception):
    """A question that SLURM has no answer to."""


def watch(options: argparse.Namespace) -> int:
    """Until the job (all jobs of an array) has ended: the first status that is not 0."""
    before: dict[str, str] = {}
    while True:
        rows = states(options.job)
        for name, row in rows.items():
            line = row["state"].lower() + "".join(
                f", {label} {row[key]}" for key, label in
                (("nodes", "on"), ("reason", "because of"), ("restarts", "restarts"),
                 ("exit", "status")) if row.get(key) not in (None, "", "None", "(null)", "0")
            )
            if before.get(name) != line:
                print(f"{time.strftime('%H:%M:%S')} {name}: {line}", flush=True)
                before[name] = line
        if all(row["state"] not in WAITING for row in rows.values()):
            found = [number(row) for row in rows.values()]
            return next((status for status in found if status), 0)
        time.sleep(options.every)


def states(job: str) -> dict[str, dict[str, str]]:
    """What SLURM knows of a job, or of each job of an array: state, reason, nodes, restarts, exit.

    From the controller, which forgets a job minutes after its end; then from the accounts.
    """
    need("scontrol")
    asked = subprocess.run(["scontrol", "show", "job", "--oneliner", job], capture_output=True,
                           text=True)
    rows = {}
    for line in asked.stdout.splitlines():
        told = dict(re.findall(r"(\w+)=(\S*)", line))
        if "JobState" in told:
            name = told["JobId"]
            if "ArrayJobId" in told:
                name = f"{told['ArrayJobId']}_{told.get('ArrayTaskId', '*')}"
            state = told["JobState"]
            rows[name] = {"state": state, "nodes": told.get("NodeList", ""),
                          "reason": told.get("Reason", "") if state == "PENDING" else "",
                          "restarts": told.get("Restarts", ""),
                          "exit": "" if state in WAITING else shown(told.get("ExitCode", ""))}
    if rows:
        return rows
    if asked.returncode and "Invalid job id" not in asked.stderr:
        raise Unknown(f"scontrol: {' '.join(asked.stderr.split())}")
    if shutil.which("sacct"):
        kept = subprocess.run(
            ["sacct", "-n", "-X", "-P", "-o", "JobID,State,ExitCode", "-j", job],
            capture_output=True, text=True,
        )
        for line in kept.stdout.splitlines():
            name, state, code = line.split("|")[:3]
            rows[name] = {"state": state.split()[0], "exit": shown(code)}
    if not rows:
        raise Unknown(f"job {job}: SLURM knows none, or no longer (no accounts are kept here); its "
                      f"logs stay: {sys.argv[0]} logs {job}")
    return rows


def shown(code: str) -> str:
    """SLURM's STATUS:SIGNAL as a shell has it."""
    status, _, signal = code.partition(":")
    return str(128 + int(signal)) if signal not in ("", "0") else status


def number(row: dict[str, str]) -> int:
    """The status of a job that has ended."""
    status = int(row["exit"]) if row.get("exit", "").isdigit() else 0
    return 0 if row["state"] == "COMPLETED" else status or 1


def logs(options: argparse.Namespace) -> int:
    folder = options.logs / options.job
    ranks = sorted(folder.glob("rank-*.log"), key=lambda path: int(path.stem.partition("-")[2]))
    if options.rank is not None:
        ranks = [path for path in ranks if path.name == f"rank-{options.rank}.log"]
    if not ranks:
        what = "no ranks' logs" if options.rank is None else f"no log of rank {options.rank}"
        raise Unknown(f"{folder}: {what}; has the job begun, and was --logs another folder?")
    for path in ranks:
        print(f"== {path}")
        with path.open(errors="replace") as file:
            lines = file.read().splitlines()
        print("\n".join(lines[-options.lines :] if options.lines > 0 else []))
    return 0


def need(name: str) -> None:
    if shutil.which(name) is None:
        raise Unknown(f"{name}: no such command here; run this where SLURM's commands are (a login "
                      "node), or `render` and take the script there")
