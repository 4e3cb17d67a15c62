#!/usr/bin/env python3
"""Trainings on a SLURM cluster: a batch script, its submission, its state, its ranks' logs.

    python launch/slurm.py render --nodes 2 --gpus 8 --time 24:00:00 -- \\
        sleeplm train experiments/reference_gpu.py --data.corpus CORPUS
    python launch/slurm.py submit --nodes 2 --gpus 8 --time 24:00:00 -- ...
    python launch/slurm.py watch 1234
    python launch/slurm.py logs 1234 --rank 1

`render` prints the script and does nothing; `submit` gives the same script to sbatch and prints the
job's number. One task a node drives all of its GPUs, unless --tasks-per-node says otherwise. SLURM
warns the tasks --warn seconds before the time limit (SIGUSR1), and when it preempts them (SIGTERM):
`sleeplm train` saves and ends with status 143, the script puts the job back into the queue, and the
same command goes on from there. After a failure that another start may mend (124: nothing moved,
134: another process was lost, 137: killed) it does so at most --retries times. `scancel JOB` ends
it for good.

--sweep FILE makes it an array: one job for each line of FILE, with the words of that line added to
the command. Each rank has a log, LOGS/JOB/rank-N.log; a restart adds to it. --logs has to be on a
disk that all nodes see.

Needs neither JAX nor this project's package, but sbatch, squeue and scontrol: it runs on a login
node.
"""

# Not by submitit (1.5.4, MIT), which is made for Python functions: it pickles what it submits and
# unpickles it on the nodes, keeps USR2 and the requeue for functions that it can pickle anew, and
# asks sacct for states, which a cluster without an accounting database does not answer. Of what is
# left, an sbatch header, nothing is public there.

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

from slurm_jobs import Unknown, logs, need, watch

WARN_S = 180  # the signal may come a minute early, and half a minute late
WAIT_S = 300  # for the other tasks when one has ended: a rank that is missed is named by then
RETRIES = 2
EVERY_S = 10.0
OURS = {"--output": "-o", "--error": "-e", "--open-mode": "", "--array": "-a", "--signal": "",
        "--requeue": "", "--no-requeue": "", "--nodes": "-N", "--ntasks": "-n",
        "--ntasks-per-node": "", "--job-name": "-J", "--time": "-t"}
LEAST_WORK_S = 120  # between a start and the warning: less, and it would be put back for ever
TIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}")  # minutes, H:M:S, days-hours ...
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
JOB = re.compile(r"\d+(_\d+)?")
AGAIN = (124, 134, 137)  # nothing moved, another process was lost, killed: docs/faults.md


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return {"render": render, "submit": submit, "watch": watch, "logs": logs}[options.verb](
            options
        )
    except Unknown as error:
        print(f"slurm.py: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        return 130


# ---- What is asked for

def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, about in (("render", "print the batch script, submit nothing"),
                        ("submit", "submit it; prints the job's number")):
        add_job(verbs.add_parser(verb, help=about, description=about))
    said = "a line at every change of the job's state; ends with the job, by its status"
    one = verbs.add_parser("watch", help=said, description=said)
    one.add_argument("job", help="number that submit printed; of an array: 12_3 or 12 for all")
    one.add_argument("--every", type=float, default=EVERY_S, help="seconds between two looks")
    said = "the ends of the ranks' logs"
    one = verbs.add_parser("logs", help=said, description=said)
    one.add_argument("job", help="number that submit printed; of an array: 12_3")
    one.add_argument("--rank", type=int, help="this one only")
    one.add_argument("--lines", type=int, default=20, help="of each log")
    one.add_argument("--logs", type=Path, default=Path("logs"), help="as submit was told")
    options = parser.parse_args(arguments)
    if options.verb in ("render", "submit"):
        check(options, parser)
    elif JOB.fullmatch(options.job) is None:
        parser.error(f"{options.job}: give a job's number, such as 1234, or 1234_5 of an array")
    return options


def add_job(one: argparse.ArgumentParser) -> None:
    one.add_argument("--name", default="sleeplm", help="of the job")
    one.add_argument("--nodes", type=int, default=1)
    one.add_argument("--tasks-per-node", type=int, default=1,
                     help="processes a node; they share out its GPUs")
    one.add_argument("--gpus", type=int, default=0, help="of each node")
    one.add_argument("--cpus", type=int, help="of each task")
    one.add_argument("--memory", help="of each node, such as 200G; 0: all of it")
    one.add_argument("--time", help="limit: minutes, H:M:S or days-hours; default: the partition's")
    one.add_argument("--partition")
    one.add_argument("--account")
    one.add_argument("--qos")
    one.add_argument("--constraint", help="features that the nodes must have")
    one.add_argument("--exclusive", action="store_true", help="whole nodes")
    one.add_argument("--requeue", action=argparse.BooleanOptionalAction, default=True,
                     help="go on after preemption, the time limit or a node's failure")
    one.add_argument("--warn", type=int, default=WARN_S,
                     help="seconds before the time limit to save in")
    one.add_argument("--retries", type=int, default=RETRIES,
                     help="starts after a failure that another start may mend")
    one.add_argument("--sweep", type=Path, help="one run for each line: words for the command")
    one.add_argument("--parallel", type=int, help="runs of a sweep at a time")
    one.add_argument("--container", help="image that the tasks run in")
    one.add_argument("--container-tool", choices=("pyxis", "apptainer"), default="pyxis")
    one.add_argument("--mount", action="append", default=[], metavar="FROM:TO",
                     help="a folder for the container; may be repeated")
    one.add_argument("--setup", action="append", default=[], metavar="LINE",
                     help="shell line before the tasks, such as 'module load cuda'; repeated")
    one.add_argument("--env", action="append", default=[], metavar="NAME=VALUE",
                     help="for the tasks; may be repeated")
    one.add_argument("--sbatch", action="append", default=[], metavar="OPTION",
                     help="any other option of sbatch: --sbatch=--reservation=X; repeated")
    one.add_argument("--port", type=int, help="of the coordinator; default: by the job's number")
    one.add_argument("--logs", type=Path, default=Path("logs"))
    one.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND ...")


def check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Ends with one line for what cannot be; reads the sweep."""
    def refuse(line: str) -> None:
        parser.error(line)

    command = options.command
    options.command = command[1:] if command[:1] == ["--"] else command
    if not options.command:
        refuse("give the command after --, such as: -- sleeplm train FILE.py")
    for name, least in (("nodes", 1), ("tasks_per_node", 1), ("gpus", 0), ("cpus", 1),
                        ("retries", 0), ("warn", 1), ("parallel", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            refuse(f"--{name.replace('_', '-')} {value}: give {least} or more")
    if options.gpus and options.gpus % options.tasks_per_node:
        refuse(f"--gpus {options.gpus} do not divide over --tasks-per-node "
               f"{options.tasks_per_node}: change one of them")
    if options.warn > 65535:
        refuse(f"--warn {options.warn}: SLURM takes at most 65535 s")
    if options.port is not None and not 1024 <= options.port <= 65535:
        refuse(f"--port {options.port}: give one of 1024 to 65535")
    if options.time and TIME.fullmatch(options.time) is None:
        refuse(f"--time {options.time}: give minutes, H:M:S or days-hours")
    limit = seconds_of(options.time) if options.time else 0
    if limit and options.requeue and limit < options.warn + LEAST_WORK_S:
        refuse(f"--time {options.time}: is {limit} s, and SLURM warns {options.warn} s before its "
               "end: the job would save and go back into the queue for ever; give more time, or a "
               "smaller --warn")
    if NAME.fullmatch(options.name) is None:
        refuse(f"--name {options.name!r}: letters, digits, dots, dashes and underscores only")
    for name in ("memory", "partition", "account", "qos", "constraint"):
        value = getattr(options, name)
        if value is not None and (not value or re.search(r"[\s\"'\\#]", value)):
            refuse(f"--{name} {value!r}: SLURM takes no spaces and no quotes there")
    for one in options.sbatch:
        if not one.startswith("-") or "\n" in one:
            refuse(f"--sbatch {one!r}: give one option, such as --sbatch=--reservation=NAME")
        for ours, short in OURS.items():
            name = one.split("=")[0].split()[0]
            # A short name's value may follow without a space.
            if name == ours or short and one.startswith(short) and not one.startswith("--"):
                refuse(f"--sbatch {one}: this script sets {ours} itself")
    for one in options.env:
        if not re.fullmatch(r"[A-Za-z_]\w*=[^\n]*", one):
            refuse(f"--env {one!r}: give NAME=VALUE")
    if options.mount and not options.container:
        refuse("--mount: is for a container; give --container IMAGE")
    for one in options.mount:
        if not re.fullmatch(r"/[^:,]*:/[^:,]*(:r[ow])?", one):
            refuse(f"--mount {one!r}: give two absolute paths, FROM:TO")
    if any(character in str(options.logs) for character in "\n\r\\"):
        refuse("--logs: choose a folder without line ends and backslashes in its name")
    if options.parallel and not options.sweep:
        refuse("--parallel: is for an array; give --sweep FILE")
    options.rows = read_sweep(options.sweep, parser) if options.sweep else []


def seconds_of(limit: str) -> int:
    """Seconds of a time limit as sbatch reads it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S. 0: none."""
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not dash:  # minutes come first where there are no hours
        parts = [0, *parts] if len(parts) < 3 else parts
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def read_sweep(path: Path, parser: argparse.ArgumentParser) -> list[list[str]]:
    """The words of each line; empty lines and comments are left out."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"--sweep {path}: cannot be read ({error})")
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            parser.error(f"--sweep {path}: line {number}: {error}")
        if words:
            rows.append(words)
    if not rows:
        parser.error(f"--sweep {path}: has no line with words for a command")
    return rows


# ---- The script

def script(options: argparse.Namespace) -> str:
    """The batch script: SLURM's header, then bash."""
    folder = options.logs.resolve()
    job = "%A_%a" if options.rows else "%j"
    header = [
        f"--job-name={options.name}",
        f"--nodes={options.nodes}",
        f"--ntasks={options.nodes * options.tasks_per_node}",
        f"--ntasks-per-node={options.tasks_per_node}",
        f"--output={pattern(folder)}/job-{job}.log",
        "--open-mode=append",
        f"--signal=USR1@{options.warn}",
        "--requeue" if options.requeue else "--no-requeue",
    ]
    for option, value in (
        ("gpus-per-node", options.gpus), ("cpus-per-task", options.cpus), ("mem", options.memory),
        ("time", options.time), ("partition", options.partition), ("account", options.account),
        ("qos", options.qos), ("constraint", options.constraint),
    ):
        if value:
            header.append(f"--{option}={value}")
    if options.exclusive:
        header.append("--exclusive")
    if options.rows:
        at_a_time = f"%{options.parallel}" if options.parallel else ""
        header.append(f"--array=0-{len(options.rows) - 1}{at_a_time}")
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH {quoted(one)}" for one in [*header, *options.sbatch]]
    return "\n".join([*lines, "", *body(options, folder)]) + "\n"


def quoted(option: str) -> str:
    """An option as sbatch's own reader of #SBATCH lines takes it: quotes where there are spaces."""
    name, sign, value = option.partition("=")
    return f"{name}{sign}{shlex.quote(value)}" if sign else option


def pattern(path: Path) -> str:
    """A path where SLURM would take %x for something of the job."""
    return str(path).replace("%", "%%")


def body(options: argparse.Namespace, folder: Path) -> list[str]:
    port = str(options.port) if options.port else "$((20000 + SLURM_JOB_ID % 10000))"
    lines = []
    if options.rows:
        lines += ["job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}",
                  'case "$SLURM_ARRAY_TASK_ID" in']
        lines += [f"  {i}) more=({shlex.join(row)}) ;;" for i, row in enumerate(options.rows)]
        lines += ["esac"]
    else:
        lines += ["job=$SLURM_JOB_ID", "more=()"]
    lines += [
        f'logs={shlex.quote(str(folder))}/"$job"',
        'mkdir -p "$logs"',
        "",
        # The first task's node: SLURM numbers tasks in the order of its nodes.
        'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        f'export SLEEPLM_COORDINATOR="$first:{port}"',
        "export PYTHONUNBUFFERED=1",
        *(f"export {one.partition('=')[0]}={shlex.quote(one.partition('=')[2])}"
          for one in options.env),
        *options.setup,
        "",
        "for ((rank = 0; rank < SLURM_NTASKS; rank++)); do",
        '  echo "--- $(date "+%F %T"): rank $rank of $SLURM_NTASKS, job $job,'
        ' restart ${SLURM_RESTART_COUNT:-0}" >> "$logs/rank-$rank.log"',
        "done",
        "status=0",
        f"{srun(options)} || status=$?",
        'echo "$(date "+%F %T"): job $job ended with status $status" >&2',
    ]
    if options.requeue:
        lines += [
            "",
            'again() { echo "job $job goes back into the queue: $1" >&2;'
            ' scontrol requeue "$job"; }',
            "case $status in",
            '  143) again "stopped and saved" ;;',
            f"  {'|'.join(str(status) for status in AGAIN)})",
            '    echo "$status" >> "$logs/failures"',
            f'    if (($(wc -l < "$logs/failures") <= {options.retries})); then',
            f'      again "status $status may be mended, at most {options.retries} times"',
            "    fi ;;",
            "esac",
        ]
    return [*lines, 'exit "$status"']


def srun(options: argparse.Namespace) -> str:
    """The line that starts the tasks. The ranks' own ends decide, not the first that ends."""
    words = ["srun", "--kill-on-bad-exit=0", f"--wait={WAIT_S}", "--open-mode=append",
             "--unbuffered"]
    if options.cpus:  # since SLURM 22.05 srun does not take it over from sbatch
        words.append(f"--cpus-per-task={options.cpus}")
    inside = []
    if options.container and options.container_tool == "pyxis":
        words.append(f"--container-image={options.container}")
        if options.mount:
            words.append(f"--container-mounts={','.join(options.mount)}")
    elif options.container:
        gpus = ["--nv"] if options.gpus else []
        inside = ["apptainer", "exec", *gpus,
                  *(word for one in options.mount for word in ("--bind", one)), options.container]
    # In the shell's hands: `logs` and `more` are of this job, and % would be SLURM's.
    return (f'{shlex.join(words)} --output="${{logs//%/%%}}/rank-%t.log" '
            f'{shlex.join([*inside, *options.command])} "${{more[@]}}"')


# ---- What is done with it

def render(options: argparse.Namespace) -> int:
    print(script(options), end="")
    return 0


def submit(options: argparse.Namespace) -> int:
    text = script(options)
    need("sbatch")
    options.logs.mkdir(parents=True, exist_ok=True)  # SLURM makes none, and says nothing
    done = subprocess.run(["sbatch", "--parsable"], input=text, capture_output=True, text=True)
    if done.returncode:
        raise Unknown(f"sbatch refused it: {' '.join(done.stderr.split())}")
    job = done.stdout.strip().partition(";")[0]  # JOB;CLUSTER where there are several
    kept = options.logs / f"job-{job}.sh"
    kept.write_text(text)
    print(job)
    print(f"script in {kept}, logs in {options.logs}; python {sys.argv[0]} watch {job}",
          file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
