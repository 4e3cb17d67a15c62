"""Which process this one is, by what launchers, SLURM, Kubernetes and TPU machines tell."""

import http.server
import threading

import pytest

from sleeplm_jax.errors import ConfigError
from sleeplm_jax.parallel.ranks import Rank, first_node, gpus_here, has_tpu, rank_here

OURS = {"SLEEPLM_COORDINATOR": "10.0.0.1:4000", "SLEEPLM_PROCESSES": "8", "SLEEPLM_PROCESS": "3"}
# As a task of `srun --nodes 2 --ntasks-per-node 1` has them (SLURM 22.05).
STEP = {"SLURM_JOB_ID": "12345", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[03-04]",
        "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_PROCID": "1", "SLURM_LOCALID": "0",
        "SLURM_NODEID": "1"}
POD = {"TPU_WORKER_HOSTNAMES": "w-0.svc,w-1.svc,w-2.svc,w-3.svc", "TPU_WORKER_ID": "2"}


@pytest.fixture
def nowhere(tmp_path):
    """A machine without any PCI device."""
    return tmp_path / "none"


@pytest.fixture
def tpu(tmp_path):
    """A machine with a v5p chip beside Google's network card."""
    for name, device in (("0000:00:04.0", "0x0042"), ("0000:00:05.0", "0x0062")):
        folder = tmp_path / "pci" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text("0x1ae0\n")
        (folder / "device").write_text(f"{device}\n")
    return tmp_path / "pci"


@pytest.fixture
def metadata():
    """A metadata server; what it answers, by key, and its address."""
    told = {}

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = told.get(self.path.rpartition("/")[2])
            right = self.headers.get("Metadata-Flavor") == "Google" and found is not None
            self.send_response(200 if right else 404)
            self.end_headers()
            self.wfile.write(found.encode() if right else b"")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told, {"GCE_METADATA_IP": f"127.0.0.1:{server.server_port}"}
    server.shutdown()
    server.server_close()


def test_without_anything_said_a_process_is_alone(nowhere):
    assert rank_here({}, nowhere) is None


def test_launchers_say_it_outright(nowhere):
    assert rank_here(OURS | STEP | POD, nowhere) == Rank("10.0.0.1:4000", 8, 3)


@pytest.mark.parametrize("more, found", [
    ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, (2, 1)),
    ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, (2, 1)),
    ({"SLEEPLM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "3"}, (4, 3)),
])
def test_of_a_launchers_rank_the_scheduler_may_say_the_numbers(more, found, nowhere):
    given = {"SLEEPLM_COORDINATOR": "10.0.0.1:4000", **more}
    assert rank_here(given, nowhere) == Rank("10.0.0.1:4000", *found)


def test_a_task_of_slurm_needs_no_launcher(nowhere):
    assert rank_here(STEP, nowhere) == Rank("gpu03:22345", 2, 1, told_by="SLURM")


def test_one_task_and_a_batch_script_are_alone(nowhere):
    assert rank_here(STEP | {"SLURM_STEP_NUM_TASKS": "1"}, nowhere) is None
    script = {key: value for key, value in STEP.items() if not key.startswith("SLURM_STEP")}
    assert rank_here(script, nowhere) is None


def test_tasks_that_are_to_be_alone_can_be_told(nowhere):
    assert rank_here(STEP | {"SLEEPLM_PROCESSES": "1"}, nowhere) is None


@pytest.mark.parametrize("nodes, first", [
    ("node1", "node1"), ("node1,node2", "node1"), ("gpu[03-05,9],cpu1", "gpu03"),
    ("a[7,9]", "a7"), ("rack[1-2]-ib,x", "rack1-ib"), ("n-1.site[3-4]", "n-1.site3"),
])
def test_the_first_of_slurms_nodes(nodes, first):
    assert first_node(nodes) == first


def test_xpk_says_it_by_its_own_names(nowhere):
    given = {"JAX_COORDINATOR_ADDRESS": "set-slice-job-0-0.set", "JAX_COORDINATOR_PORT": "6002",
             "NNODES": "4", "NODE_RANK": "2"}
    assert rank_here(given, nowhere) == Rank("set-slice-job-0-0.set:6002", 4, 2, told_by="xpk")


def test_a_tpu_pod_of_kubernetes(nowhere):
    assert rank_here(POD, nowhere) == Rank("w-0.svc:8482", 4, 2, told_by="Kubernetes")
    alone = {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
    assert rank_here(alone, nowhere) is None


def test_slices_of_tpus_follow_one_another(nowhere):
    slices = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1",
              "MEGASCALE_COORDINATOR_ADDRESS": "first.svc:8080"}
    assert rank_here(POD | slices, nowhere) == Rank("first.svc:8482", 8, 6, told_by="Kubernetes")


@pytest.mark.parametrize("endpoints", ["10.1.0.1,10.1.0.2", "a:0:10.1.0.1,b:1:10.1.0.2"])
def test_a_tpu_machine_asks_its_metadata(endpoints, metadata, tpu):
    told, where = metadata
    told |= {"worker-network-endpoints": endpoints, "agent-worker-number": "1"}
    assert rank_here(where, tpu) == Rank("10.1.0.1:8482", 2, 1, told_by="the TPU machine")
    told["tpu-env"] = ("ACCELERATOR_TYPE: 'v5p-16'\nMEGASCALE_NUM_SLICES: '2'\n"
                       "MEGASCALE_SLICE_ID: '1'\nMEGASCALE_COORDINATOR_ADDRESS: '10.1.0.9:8080'\n")
    assert rank_here(where, tpu) == Rank("10.1.0.9:8482", 4, 3, told_by="the TPU machine")


def test_a_tpu_machine_whose_metadata_say_nothing_of_workers_is_alone(metadata, tpu):
    _, where = metadata
    assert rank_here(where, tpu) is None


def test_a_tpu_machine_without_metadata_is_told(tpu):
    nobody = {"GCE_METADATA_IP": "127.0.0.1:9"}
    with pytest.raises(ConfigError, match="does not answer"):
        rank_here(nobody, tpu)
    assert rank_here(nobody | {"TPU_SKIP_MDS_QUERY": "1"}, tpu) is None
    assert rank_here(nobody | {"SLEEPLM_PROCESSES": "1"}, tpu) is None


def test_a_network_card_of_googles_is_no_tpu(tpu):
    assert has_tpu(tpu)
    (tpu / "0000:00:05.0" / "device").write_text("0x0042\n")
    assert not has_tpu(tpu)


@pytest.mark.parametrize("change, finding", [
    ({"SLEEPLM_COORDINATOR": "nowhere"}, "host:port"),
    ({"SLEEPLM_COORDINATOR": "10.0.0.1:0"}, "host:port"),
    ({"SLEEPLM_PROCESS": "8"}, "8 of 8"),
    ({"SLEEPLM_PROCESSES": "many"}, "'many'"),
    ({"SLEEPLM_COORDINATOR": "127.0.1.1:4000"}, "its own host only"),
    ({"SLEEPLM_COORDINATOR": "localhost:4000"}, "its own host only"),
])
def test_an_environment_that_cannot_be_is_refused(change, finding, nowhere):
    with pytest.raises(ConfigError, match=finding):
        rank_here(OURS | change, nowhere)


def test_a_loopback_address_serves_on_one_host(nowhere):
    one = {"SLEEPLM_COORDINATOR": "127.0.0.1:4000", "SLEEPLM_PROCESSES": "2",
           "SLEEPLM_PROCESS": "1", "SLEEPLM_ONE_HOST": "1"}
    assert rank_here(one, nowhere) == Rank("127.0.0.1:4000", 2, 1, one_host=True)


def test_the_first_rank_may_call_itself_by_a_name_that_is_loopback_here(monkeypatch, nowhere):
    """Debian's /etc/hosts gives a host's own name 127.0.1.1; the other hosts' do not."""
    from sleeplm_jax.parallel import ranks

    monkeypatch.setattr(ranks.socket, "gethostname", lambda: "node-1")
    monkeypatch.setattr(ranks, "is_loopback", lambda host: True)
    ours = {"SLEEPLM_COORDINATOR": "node-1:4000", "SLEEPLM_PROCESSES": "2"}
    assert rank_here(ours | {"SLEEPLM_PROCESS": "0"}, nowhere).coordinator == "node-1:4000"
    with pytest.raises(ConfigError, match="its own host only"):
        rank_here(ours | {"SLEEPLM_PROCESS": "1"}, nowhere)


# Four GPUs a node, two tasks on the first node and one on the second.
SHARED = {"SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_GPUS_ON_NODE": "4",
          "CUDA_VISIBLE_DEVICES": "0,1,2,3"}


@pytest.mark.parametrize("node, local, visible, share", [
    ("0", "0", "0,1,2,3", [0, 1]),
    ("0", "1", "0,1,2,3", [2, 3]),
    ("1", "0", "0,1,2,3", None),  # alone on its node
    ("0", "1", "0,1", None),  # SLURM has given each task its own
    ("0", "1", "", None),
])
def test_tasks_of_a_node_share_its_gpus(node, local, visible, share):
    given = SHARED | {"SLURM_NODEID": node, "SLURM_LOCALID": local,
                      "CUDA_VISIBLE_DEVICES": visible}
    assert gpus_here(given) == share


def test_gpus_that_do_not_divide_are_told():
    three = SHARED | {"SLURM_NODEID": "0", "SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "0,1,2",
                      "SLURM_GPUS_ON_NODE": "3"}
    with pytest.raises(ConfigError, match="do not divide"):
        gpus_here(three)
    assert gpus_here({}) is None
