#!/usr/bin/env python3
"""Trainings on a TPU slice of Google's Cloud TPU: the gcloud commands, printed or run.

    python launch/tpu_vm.py create my-tpu --zone us-east5-a --tpu v5p:2x2x4 --spot
    python launch/tpu_vm.py copy my-tpu --zone us-east5-a
    python launch/tpu_vm.py start my-tpu --zone us-east5-a -- \\
        sleeplm train experiments/reference_gpu.py --out gs://BUCKET/runs \\
        --data.corpus gs://BUCKET/corpus
    python launch/tpu_vm.py logs my-tpu --zone us-east5-a
    python launch/tpu_vm.py stop my-tpu --zone us-east5-a
    python launch/tpu_vm.py delete my-tpu --zone us-east5-a

Each prints its commands; with --run it runs them, one after the other, and stops at the first that
fails. `copy` brings the commit that is checked out here to all hosts (a git bundle: changes that
are not committed stay behind) and installs it; `start` starts the same command on all hosts, in the
background, so a connection that breaks ends nothing; `stop` asks it to save and end (SIGTERM).
What the hosts are to each other they learn from their machines' metadata.

Needs neither JAX nor this project's package, but git, and gcloud for --run.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys

from tpus import slice_of

BUNDLE, CODE, ENVIRONMENT, WORK = "sleeplm.bundle", "sleeplm_jax", "sleeplm-venv", "sleeplm-run"
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    commands = {"create": create, "copy": copy, "start": start, "logs": logs, "stop": stop,
                "delete": delete}[options.verb](options)
    if not options.run:
        print("\n".join(shlex.join(command) for command in commands))
        return 0
    for command in commands:
        if shutil.which(command[0]) is None:
            print(f"tpu_vm.py: {command[0]}: no such command here; without --run the commands are "
                  "printed", file=sys.stderr)
            return 2
        print(f"+ {shlex.join(command)}", file=sys.stderr, flush=True)
        status = subprocess.run(command).returncode
        if status:
            print(f"tpu_vm.py: ended with status {status}; what comes after it was not run",
                  file=sys.stderr)
            return status
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {}
    for verb, about in (
        ("create", "ask for the slice"), ("copy", "bring this commit to all hosts, install it"),
        ("start", "start a command on all hosts"), ("logs", "the ends of all hosts' logs"),
        ("stop", "ask the command to save and end"), ("delete", "give the slice back"),
    ):
        one = made[verb] = verbs.add_parser(verb, help=about, description=about)
        one.add_argument("name", help="of the slice")
        one.add_argument("--zone", required=True)
        one.add_argument("--project")
        one.add_argument("--run", action="store_true", help="run the commands, not only print them")
    made["create"].add_argument("--tpu", required=True, help="such as v5p:2x2x4 or v5e:4x4")
    made["create"].add_argument("--spot", action="store_true", help="cheaper, may be taken away")
    made["create"].add_argument("--queued", action="store_true",
                                help="wait in Google's queue for it")
    made["create"].add_argument("--software", help="version; default: the one for JAX")
    made["delete"].add_argument("--queued", action="store_true", help="as it was created")
    made["start"].usage = "tpu_vm.py start NAME --zone ZONE ... -- COMMAND ..."
    made["start"].add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    made["logs"].add_argument("--lines", type=int, default=20)
    arguments = sys.argv[1:] if arguments is None else arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.command = arguments[end + 1 :]
    if NAME.fullmatch(options.name) is None or len(options.name) > 61:
        parser.error(f"{options.name!r}: a slice's name has small letters, digits and dashes, a "
                     "letter first")
    if options.verb == "create":
        try:
            options.slice = slice_of(options.tpu)
        except ValueError as error:
            parser.error(f"--tpu {error}")
    if options.command and options.verb != "start":
        parser.error(f"{options.verb}: takes no command; give {options.command[0]!r} to start")
    if options.verb == "start":
        if not options.command:
            parser.error("give the command after --, such as: -- sleeplm train FILE.py")
        for one in options.env:
            if not re.fullmatch(r"[A-Za-z_]\w*=.*", one, re.DOTALL):
                parser.error(f"--env {one!r}: give NAME=VALUE")
    return options


def create(options: argparse.Namespace) -> list[list[str]]:
    found = options.slice
    # Of 3-D slices several shapes have the same number of chips; a name says only the number.
    shape = [f"--type={found.kind.accelerator}", f"--topology={found.topology}"]
    if found.kind.dimensions == 2:
        shape = [f"--accelerator-type={found.accelerator}"]
    spot = ["--spot"] if options.spot else []
    software = options.software or found.kind.software
    if options.queued:
        return [["gcloud", "compute", "tpus", "queued-resources", "create", options.name,
                 f"--node-id={options.name}", *place(options), *shape,
                 f"--runtime-version={software}", *spot]]
    return [["gcloud", "compute", "tpus", "tpu-vm", "create", options.name, *place(options),
             *shape, f"--version={software}", *spot]]


def copy(options: argparse.Namespace) -> list[list[str]]:
    install = "; ".join([
        "set -e",
        f"rm -rf {CODE}",  # a copy that this made before
        f"git clone --quiet {BUNDLE} {CODE}",
        f"test -d {ENVIRONMENT} || python3 -m venv {ENVIRONMENT}",
        f"{ENVIRONMENT}/bin/python -m pip install --quiet -c {CODE}/requirements.lock"
        f" -e '{CODE}[tpu,stores]'",
    ])
    return [
        ["git", "bundle", "create", BUNDLE, "HEAD"],
        ["gcloud", "compute", "tpus", "tpu-vm", "scp", BUNDLE, f"{options.name}:{BUNDLE}",
         *place(options), "--worker=all"],
        ssh(options, install),
    ]


def start(options: argparse.Namespace) -> list[list[str]]:
    given = [f"{name}={shlex.quote(value)}" for name, _, value in
             (one.partition("=") for one in options.env)]
    line = " ".join(["PYTHONUNBUFFERED=1", *given, "setsid", "nohup", shlex.join(options.command)])
    return [ssh(options, "; ".join([
        "set -e",
        f"mkdir -p {WORK}",
        f'export PATH="$HOME/{ENVIRONMENT}/bin:$PATH"',
        f"cd {CODE}",
        f'if kill -0 "$(cat ../{WORK}/pid 2>/dev/null)" 2>/dev/null;'
        ' then echo "a command runs here already: stop it first" >&2; exit 1; fi',
        f"{line} >> ../{WORK}/log 2>&1 < /dev/null & echo $! > ../{WORK}/pid",
    ]))]


def logs(options: argparse.Namespace) -> list[list[str]]:
    return [ssh(options, f"echo \"== $(hostname)\"; tail -n {options.lines} {WORK}/log")]


def stop(options: argparse.Namespace) -> list[list[str]]:
    return [ssh(options, f'kill -TERM "$(cat {WORK}/pid)"')]


def delete(options: argparse.Namespace) -> list[list[str]]:
    if options.queued:
        return [["gcloud", "compute", "tpus", "queued-resources", "delete", options.name,
                 *place(options), "--force", "--quiet"]]
    return [["gcloud", "compute", "tpus", "tpu-vm", "delete", options.name, *place(options),
             "--quiet"]]


def ssh(options: argparse.Namespace, line: str) -> list[str]:
    return ["gcloud", "compute", "tpus", "tpu-vm", "ssh", options.name, *place(options),
            "--worker=all", f"--command={line}"]


def place(options: argparse.Namespace) -> list[str]:
    project = [f"--project={options.project}"] if options.project else []
    return [f"--zone={options.zone}", *project]


if __name__ == "__main__":
    sys.exit(main())
