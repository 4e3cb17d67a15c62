"""launch/gke.py: manifests that Kubernetes' schema takes, and the same asked of xpk."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.launch.calling import called

SCHEMA = Path(__file__).with_name("jobset.schema.json")
WORDS = ["sleeplm", "train", "it's a.py", "--x", "$(HOME)", "$$", "a$b", "*"]
TPU = ("--name", "base", "--image", "reg/i:1", "--tpu", "v5p:4x4x4", "--slices", "2")
GPU = ("--name", "base", "--image", "reg/i:1", "--gpu", "h100-mega-80gb:8", "--nodes", "4")
EVERY = [
    TPU, GPU, (*TPU, "--spot", "--queue", "team", "--priority", "high", "--namespace", "sleep",
               "--service-account", "reader", "--env", "A=$(B) c"),
    (*GPU, "--spot", "--restarts", "0", "--grace", "25", "--env", "A="),
    ("--name", "b", "--image", "i", "--tpu", "v5e:1x1"),
    ("--name", "b", "--image", "i", "--gpu", "l4:1"),
]


def gke(*arguments, words=WORDS):
    return called("gke", *arguments, "--", *words)


def manifest(*arguments):
    done = gke("render", *arguments)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def job(found):
    [one] = found["spec"]["replicatedJobs"]
    return one, one["template"]["spec"], one["template"]["spec"]["template"]["spec"]


def expanded(text, variables):
    """Kubernetes' reading of a word of a command (its expansion.go: $$ is $, $(X) a variable)."""
    return re.sub(r"\$(\$|\(([^()]*)\))", lambda found: "$" if found[1] == "$" else
                  variables.get(found[2], found[0]), text)


@pytest.mark.parametrize("arguments", EVERY)
def test_every_manifest_fits_the_schema(arguments):
    jsonschema.validate(manifest(*arguments), json.loads(SCHEMA.read_text()))


def test_the_schema_refuses_what_is_no_jobset():
    schema = json.loads(SCHEMA.read_text())
    for spoil in (
        lambda found: found["spec"].update(failurePolcy={}),
        lambda found: found.update(apiVersion="jobset.x-k8s.io/v1alpha1"),
        lambda found: job(found)[2]["containers"][0]["env"].append({"name": "A", "value": 1}),
        lambda found: job(found)[1].update(parallelism="4"),
        lambda found: found["metadata"].update(name="Base_1"),
    ):
        found = manifest(*TPU)
        spoil(found)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(found, schema)


def closed(schema):
    """A custom resource's schema as JSON Schema, refusing fields that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: {name: closed(one) for name, one in value.items()}
             if key == "properties" else closed(value)
             for key, value in schema.items() if not key.startswith("x-kubernetes")}
    if "properties" in found and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.mark.parametrize("arguments", EVERY)
def test_every_manifest_fits_the_official_definition(arguments):
    """SLEEPLM_JOBSET_CRD names a copy of jobset.x-k8s.io_jobsets.yaml of kubernetes-sigs/jobset."""
    path = os.environ.get("SLEEPLM_JOBSET_CRD")
    if not path:
        pytest.skip("SLEEPLM_JOBSET_CRD names no copy of the official definition")
    versions = yaml.safe_load(Path(path).read_text())["spec"]["versions"]
    [schema] = [one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1alpha2"]
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, not written out there
    found = manifest(*arguments)
    jsonschema.validate(found, closed(schema))
    found["spec"]["replicatedJobs"][0]["template"]["spec"]["paralelism"] = 1
    with pytest.raises(jsonschema.ValidationError, match="paralelism"):
        jsonschema.validate(found, closed(schema))


def test_slices_have_their_hosts_and_chips():
    one, indexed, pod = job(manifest(*TPU))
    assert one["replicas"] == 2 and indexed["parallelism"] == indexed["completions"] == 16
    assert pod["nodeSelector"] == {"cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
                                   "cloud.google.com/gke-tpu-topology": "4x4x4"}
    assert pod["containers"][0]["resources"] == {"limits": {"google.com/tpu": 4}}
    # Which host is which comes from Google's own variables.
    assert [one["name"] for one in pod["containers"][0]["env"]] == ["PYTHONUNBUFFERED"]
    assert manifest(*TPU)["metadata"]["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}


def test_gpu_nodes_are_told_who_they_are():
    """What a pod finds, completed as Kubernetes does it, is a rank."""
    from sleeplm_jax.parallel.ranks import Rank, rank_here

    one, indexed, pod = job(manifest(*GPU))
    [container] = pod["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    annotations = {"batch.kubernetes.io/job-completion-index": "3"}
    given = {}
    for row in container["env"]:
        if "valueFrom" in row:
            key = re.fullmatch(r"metadata\.annotations\['(.*)'\]",
                               row["valueFrom"]["fieldRef"]["fieldPath"])[1]
            given[row["name"]] = annotations[key]
        else:
            given[row["name"]] = expanded(row["value"], given)
    # JobSet's name for the first pod: JOBSET-JOB-REPLICA-INDEX.JOBSET
    assert rank_here(given) == Rank(f"base-{one['name']}-0-0.base:29500", 4, 3)
    assert indexed["completionMode"] == "Indexed" and indexed["backoffLimit"] == 0


def test_words_reach_the_container_as_they_were_given():
    [container] = job(manifest(*GPU, "--env", "A=$(B) $$ c"))[2]["containers"]
    assert [expanded(word, {"HOME": "x"}) for word in container["command"]] == WORDS
    [row] = [row for row in container["env"] if row["name"] == "A"]
    assert expanded(row["value"], {"B": "x"}) == "$(B) $$ c"


def test_a_mistake_ends_it_and_an_eviction_does_not():
    """Statuses of docs/faults.md: 1 and 2 are not mended by another start, 134, 137, 143 are."""
    found = manifest(*TPU)
    [rule] = job(found)[1]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [1, 2]
    assert rule["onExitCodes"]["containerName"] == job(found)[2]["containers"][0]["name"]
    policy = found["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 10
    assert policy["rules"] == [{"name": "mistake", "action": "FailJobSet",
                                "onJobFailureReasons": ["PodFailurePolicy"]}]


KUBECTL = """#!/usr/bin/env python3
import os, sys
open(os.environ["GIVEN"], "w").write(repr(sys.argv[1:]) + sys.stdin.read())
"""


def test_submitted_is_what_was_rendered(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = gke("submit", *TPU)
    assert done.returncode == 2 and "no such command" in done.stderr
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}:{Path(sys.executable).parent}")
    monkeypatch.setenv("GIVEN", str(tmp_path / "given"))
    assert gke("submit", *TPU, "--namespace", "sleep").returncode == 0
    rendered = gke("render", *TPU, "--namespace", "sleep").stdout
    words = ["create", "-f", "-", "--namespace", "sleep"]
    assert (tmp_path / "given").read_text() == repr(words) + rendered


@pytest.mark.parametrize("kind, device", [
    (TPU, ["--tpu-type=v5p-128", "--num-slices=2"]),
    (GPU, ["--device-type=h100-mega-80gb-8", "--num-nodes=4"]),
    (("--name", "b", "--image", "i", "--tpu", "v5e:4x4"), ["--tpu-type=v5litepod-16"]),
])
def test_xpk_is_asked_for_the_same(kind, device):
    done = gke("xpk", *kind, "--cluster", "c", "--project", "p", "--zone", "z")
    words = shlex.split(done.stdout)
    assert words[:3] == ["xpk", "workload", "create"] and set(device) <= set(words)
    assert {"--cluster=c", "--project=p", "--zone=z"} <= set(words)
    [line] = [word.partition("=")[2] for word in words if word.startswith("--command=")]
    assert shlex.split(line) == WORDS


@pytest.mark.parametrize("arguments, finding", [
    (("--name", "b", "--image", "i"), "either --tpu"),
    ((*TPU, "--gpu", "l4:1"), "either --tpu"),
    (("--name", "b", "--image", "i", "--tpu", "v5p:4x4"), "3 numbers"),
    (("--name", "b", "--image", "i", "--tpu", "v9:4x4"), "no TPU known"),
    (("--name", "b", "--image", "i", "--tpu", "v5e:1x3"), "there is no such slice; v5e has 1x1"),
    (("--name", "b", "--image", "i", "--tpu", "v5p:3x3x4"), "multiples of 4"),
    (("--name", "b", "--image", "i", "--tpu", "v5p:16x16x28"), "largest slice has 6144"),
    (("--name", "b", "--image", "i", "--gpu", "h100-80gb:9"), "no machine has so many"),
    (("--name", "b", "--image", "", "--tpu", "v5e:4x4"), "give an image"),
    (("--name", "b", "--image", "i", "--tpu", "v5e:4x4", "--queue", "Bad Queue"), "small letters"),
    (("--name", "b", "--image", "i", "--gpu", "h100:8"), "h100-80gb"),
    ((*TPU, "--nodes", "2"), "--nodes"),
    ((*GPU, "--slices", "2"), "--slices"),
    (("--name", "Base", "--image", "i", "--tpu", "v5e:4x4"), "small letters"),
    ((*TPU, "--env", "A"), "NAME=VALUE"),
])
def test_bad_input_is_taught_in_one_line(arguments, finding):
    done = gke("render", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert finding in done.stderr.splitlines()[-1]


def test_a_command_is_needed_and_a_cluster_for_xpk():
    assert "after --" in gke("render", *TPU, words=[]).stderr.splitlines()[-1]
    assert "--cluster" in gke("xpk", *TPU).stderr.splitlines()[-1]
    dropped = gke("xpk", *TPU, "--cluster", "c", "--spot")
    assert "its command has no --spot" in dropped.stderr.splitlines()[-1]
    other = gke("xpk", *GPU, "--gpu", "a100-80gb:8", "--cluster", "c")
    assert "has no a100-80gb" in other.stderr.splitlines()[-1]
