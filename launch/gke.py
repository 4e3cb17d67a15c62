#!/usr/bin/env python3
"""Trainings on Google Kubernetes Engine: a JobSet for GPUs or for TPU slices.

    python launch/gke.py render --name base --image IMAGE --tpu v5p:4x4x4 -- \\
        sleeplm train experiments/reference_gpu.py --out gs://BUCKET/runs \\
        --data.corpus gs://BUCKET/corpus
    python launch/gke.py render --name base --image IMAGE --gpu h100-mega-80gb:8 --nodes 8 -- ...
    python launch/gke.py xpk --cluster CLUSTER --name base --image IMAGE --tpu v5p:4x4x4 -- ...
    python launch/gke.py submit ...

`render` prints the manifest (jobset.x-k8s.io/v1alpha2) and does nothing; `submit` gives the same
manifest to kubectl; `xpk` prints the xpk command that asks for the same. One pod a host drives all
of its chips. There is no disk that pods share: runs and corpora lie in a bucket.

When a pod is evicted or fails, the JobSet starts all of them again, at most --restarts times, and
`sleeplm train` goes on from its last checkpoint. Status 1 and 2 (an error, a mistake of the input)
end it at once: another start would not mend them.

The networks of GPU machines (TCPX, TCPXO, RDMA) need side-cars and annotations of the cluster's,
which `xpk` adds and this manifest does not have.

Needs neither JAX nor this project's package, but pyyaml, and kubectl to submit.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys

from tpus import Slice, slice_of

API = "jobset.x-k8s.io/v1alpha2"
PORT = 29500
GRACE_S = 300  # from SIGTERM to SIGKILL; Google's spot machines leave less (docs/launching.md)
RESTARTS = 10
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# A pod's name is NAME-JOB-INDEX-POD-XXXXX, and its parts are labels of at most 63 characters.
LONGEST_NAME = 40
JOB = {"tpu": "slice", "gpu": "node"}
# GKE's names of what xpk calls h100-80gb and so on; see tpus.py for the source.
GPUS = {
    "l4": "nvidia-l4", "a100-40gb": "nvidia-tesla-a100", "a100-80gb": "nvidia-a100-80gb",
    "h100-80gb": "nvidia-h100-80gb", "h100-mega-80gb": "nvidia-h100-mega-80gb",
    "h200-141gb": "nvidia-h200-141gb", "b200": "nvidia-b200",
}
NOT_OF_XPK = ("a100-80gb",)
NOT_BY_XPK = ("spot", "queue", "namespace", "service_account")
OBJECT = re.compile(r"[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?")
MOST_GPUS = 16  # of one machine: a2-megagpu-16g


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.verb == "xpk":
        print(shlex.join(xpk(options)))
        return 0
    text = rendered(manifest(options))
    if options.verb == "render":
        print(text, end="")
        return 0
    if shutil.which("kubectl") is None:
        print("gke.py: kubectl: no such command here; `render` and take the manifest where it is",
              file=sys.stderr)
        return 2
    more = ["--namespace", options.namespace] if options.namespace else []
    return subprocess.run(["kubectl", "create", "-f", "-", *more], input=text, text=True).returncode


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage="gke.py {render,xpk,submit} --name NAME --image IMAGE (--tpu ... | --gpu ...) ... "
        "-- COMMAND ...", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("render", "xpk", "submit"))
    parser.add_argument("--name", required=True, help="of the JobSet")
    parser.add_argument("--image", required=True, help="container image with sleeplm in it")
    parser.add_argument("--tpu", help="slice, such as v5p:4x4x4 or v5e:4x4")
    parser.add_argument("--slices", type=int, default=1, help="how many of them")
    parser.add_argument("--gpu", help="kind and number of each node, such as h100-mega-80gb:8")
    parser.add_argument("--nodes", type=int, default=1, help="how many of them")
    parser.add_argument("--spot", action="store_true", help="spot machines")
    parser.add_argument("--queue", help="Kueue's local queue")
    parser.add_argument("--priority", help="name of a priority class")
    parser.add_argument("--namespace")
    parser.add_argument("--service-account", help="Kubernetes' account that may read the bucket")
    parser.add_argument("--restarts", type=int, default=RESTARTS)
    parser.add_argument("--grace", type=int, default=GRACE_S,
                        help="seconds to save in, from SIGTERM to SIGKILL")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--cluster", help="for xpk")
    parser.add_argument("--project", help="for xpk")
    parser.add_argument("--zone", help="for xpk")
    arguments = sys.argv[1:] if arguments is None else arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.command = arguments[end + 1 :]
    check(options, parser)
    return options


def check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Ends with one line for what cannot be."""
    if not options.command:
        parser.error("give the command after --, such as: -- sleeplm train FILE.py")
    if (options.tpu is None) == (options.gpu is None):
        parser.error("give either --tpu KIND:TOPOLOGY or --gpu KIND:NUMBER")
    for name, least in (("slices", 1), ("nodes", 1), ("restarts", 0), ("grace", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: give {least} or more")
    if NAME.fullmatch(options.name) is None or len(options.name) > LONGEST_NAME:
        parser.error(f"--name {options.name!r}: at most {LONGEST_NAME} small letters, digits and "
                     "dashes, a letter first")
    for one in options.env:
        if not re.fullmatch(r"[A-Za-z_]\w*=.*", one, re.DOTALL):
            parser.error(f"--env {one!r}: give NAME=VALUE")
    if options.verb == "xpk":
        if not options.cluster:
            parser.error("xpk: give --cluster")
        for name in NOT_BY_XPK:
            if getattr(options, name):
                parser.error(f"xpk: its command has no --{name.replace('_', '-')} (spot machines "
                             "and queues are the cluster's there); render a manifest instead")
    if not options.image.strip() or re.search(r"\s", options.image):
        parser.error(f"--image {options.image!r}: give an image's name")
    for name in ("queue", "priority", "namespace", "service_account"):
        value = getattr(options, name)
        if value is not None and OBJECT.fullmatch(value) is None:
            parser.error(f"--{name.replace('_', '-')} {value!r}: small letters, digits, dashes and "
                         "dots only, at most 63")
    if options.tpu:
        if options.nodes != 1:
            parser.error("--nodes: is of GPUs; a slice has the hosts that it has (--slices)")
        try:
            options.slice = slice_of(options.tpu)
        except ValueError as error:
            parser.error(f"--tpu {error}")
        return
    if options.slices != 1:
        parser.error("--slices: is of TPUs; give --nodes")
    kind, _, number = options.gpu.partition(":")
    if kind not in GPUS or not re.fullmatch(r"[1-9]\d*", number):
        parser.error(f"--gpu {options.gpu!r}: give KIND:NUMBER, such as h100-mega-80gb:8, of "
                     + ", ".join(GPUS))
    if options.verb == "xpk" and kind in NOT_OF_XPK:
        parser.error(f"xpk: has no {kind} (June 2026); render a manifest instead")
    options.kind, options.number = kind, int(number)
    if options.number > (MOST_GPUS if kind == "a100-40gb" else 8):
        parser.error(f"--gpu {options.gpu}: no machine has so many; give KIND:8 and --nodes")


# ---- The manifest

def manifest(options: argparse.Namespace) -> dict:
    """The JobSet as Kubernetes reads it."""
    tpu = options.tpu is not None
    hosts = options.slice.hosts if tpu else options.nodes
    job = {
        "parallelism": hosts, "completions": hosts, "completionMode": "Indexed",
        "backoffLimit": 0,  # one pod's failure is the job's: the others cannot go on without it
        "podFailurePolicy": {"rules": [
            {"action": "FailJob",
             "onExitCodes": {"containerName": "train", "operator": "In", "values": [1, 2]}},
        ]},
        "template": {"spec": pod(options)},
    }
    metadata: dict = {"name": options.name}
    if options.namespace:
        metadata["namespace"] = options.namespace
    if options.queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": options.queue}
    if tpu:  # a slice is a node pool: never half of one, half of another
        metadata["annotations"] = {
            "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
        }
    return {
        "apiVersion": API, "kind": "JobSet", "metadata": metadata,
        "spec": {
            "failurePolicy": {
                "maxRestarts": options.restarts,
                "rules": [{"name": "mistake", "action": "FailJobSet",
                           "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{
                "name": JOB["tpu" if tpu else "gpu"], "replicas": options.slices if tpu else 1,
                "template": {"spec": job},
            }],
        },
    }


def pod(options: argparse.Namespace) -> dict:
    spec: dict = {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": options.grace,
        "nodeSelector": {}, "containers": [container(options)],
    }
    if options.tpu:
        spec["nodeSelector"] = {
            "cloud.google.com/gke-tpu-accelerator": options.slice.kind.label,
            "cloud.google.com/gke-tpu-topology": options.slice.topology,
        }
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    else:
        spec["nodeSelector"] = {"cloud.google.com/gke-accelerator": GPUS[options.kind]}
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    if options.spot:
        spec["nodeSelector"]["cloud.google.com/gke-spot"] = "true"
    if options.priority:
        spec["priorityClassName"] = options.priority
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    return spec


def container(options: argparse.Namespace) -> dict:
    environment = [{"name": "PYTHONUNBUFFERED", "value": "1"}]
    ports = []
    if options.tpu:
        # Which host it is, a pod of a slice knows from Google's own variables
        # (TPU_WORKER_HOSTNAMES and so on), and libtpu needs the same order.
        device, count = "google.com/tpu", options.slice.chips_of_host
        one = {"securityContext": {"privileged": True}}
    else:
        device, count, one = "nvidia.com/gpu", options.number, {}
        job = f"{options.name}-{JOB['gpu']}"
        environment += [
            {"name": "SLEEPLM_COORDINATOR", "value": f"{job}-0-0.{options.name}:{PORT}"},
            {"name": "SLEEPLM_PROCESSES", "value": str(options.nodes)},
            {"name": "SLEEPLM_PROCESS", "valueFrom": {"fieldRef": {
                "fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']",
            }}},
        ]
        ports = [{"containerPort": PORT}]
    for given in options.env:
        name, _, value = given.partition("=")
        environment.append({"name": name, "value": literal(value)})
    return {
        "name": "train", "image": options.image, **one,
        "command": [literal(word) for word in options.command], "env": environment,
        **({"ports": ports} if ports else {}),
        "resources": {"limits": {device: count}},
    }


def literal(text: str) -> str:
    """As Kubernetes gives it on unchanged: it reads $(NAME) as a variable's value, $$ as $."""
    return text.replace("$", "$$")


def rendered(value: dict) -> str:
    try:
        import yaml
    except ImportError:
        raise SystemExit("gke.py: pyyaml is not installed here: pip install pyyaml") from None
    return yaml.safe_dump(value, sort_keys=False, width=100)


# ---- xpk

def xpk(options: argparse.Namespace) -> list[str]:
    """`xpk workload create` for the same; its variables are read by parallel/ranks.py too."""
    words = ["xpk", "workload", "create", f"--workload={options.name}",
             f"--cluster={options.cluster}"]
    for name in ("project", "zone"):
        if getattr(options, name):
            words.append(f"--{name}={getattr(options, name)}")
    if options.tpu:
        found: Slice = options.slice
        words += [f"--tpu-type={found.accelerator}", f"--num-slices={options.slices}"]
    else:
        words += [f"--device-type={options.kind}-{options.number}", f"--num-nodes={options.nodes}"]
    words += [f"--docker-image={options.image}", f"--max-restarts={options.restarts}",
              f"--termination-grace-period-seconds={options.grace}"]
    words += [f"--priority={options.priority}"] if options.priority else []
    words += [f"--env={one}" for one in options.env]
    return [*words, f"--command={shlex.join(options.command)}"]


if __name__ == "__main__":
    sys.exit(main())
