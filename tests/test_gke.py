"""launch.gke: the manifest against the schemas of JobSet and Kubernetes, and what it must say for this program."""

import copy
import itertools
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

from launch import cli
from launch.gke import Plan, main, manifest
from safety_align.errors import InputError
from safety_align.pod.slices import Slice
from safety_align.pod.topology import CHIPS

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPTIONS = dict(name="align", image="registry/image:1", command=("python", "-m", "launch.train"), mount="/mnt/share")
SLICES = [Slice.parse(s) for s in (
    "v5e:1x1", "v5e:2x2", "v5e:2x4", "v5e:4x4", "v5e:16x16", "v5p:2x2x1", "v5p:2x2x2", "v5p:4x4x8", "v6e:2x4", "v6e:4x4",
)]  # fmt: skip


def plan(slice="v5e:4x4", **changes) -> Plan:
    where = {} if "claim" in changes else {"bucket": "bkt"}
    return Plan(**OPTIONS | where | {"slice": Slice.parse(slice), "slices": 1} | changes)


def check(found: dict) -> None:
    """Raises ValueError unless the schema knows every field and its type.

    The models that carry the schema refuse wrong types, and drop what they do not know: so all must come back (with
    defaults beside it).
    """
    _came_back(found, JobsetV1alpha2JobSet.from_dict(copy.deepcopy(found)).to_dict())


def _came_back(sent, returned) -> None:
    if isinstance(sent, dict):
        for key, value in sent.items():
            if key not in returned:
                raise ValueError(f"unknown field {key}")
            _came_back(value, returned[key])
    elif isinstance(sent, list):
        if len(sent) != len(returned):
            raise ValueError(f"{sent} became {returned}")
        for one, other in zip(sent, returned):
            _came_back(one, other)
    elif sent != returned:
        raise ValueError(f"{sent} became {returned}")


@pytest.mark.parametrize(
    "changes",
    [{}, {"slices": 3}, {"claim": "nfs"}, {"spot": True}, {"service_account": "trainer"}, {"restarts": 0}],
    ids=str,
)
@pytest.mark.parametrize("slice", SLICES, ids=str)
def test_the_manifest_is_of_the_schema(slice, changes):
    if changes.get("slices") and slice.hosts == 1:
        with pytest.raises(InputError, match="--slices=3"):
            plan(f"{slice.kind}:{slice.shape}", **changes)
        return
    check(manifest(plan(f"{slice.kind}:{slice.shape}", **changes)))


def _nodes(tree, path=()):
    """Every (path, key) of a manifest whose place the schema names: not labels, selectors and the like."""
    free = ("annotations", "nodeSelector", "requests", "limits", "volumeAttributes", "metadata")
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        if isinstance(tree, dict) and not (path and path[-1] in free):
            yield (*path, key)
        if key not in free:
            yield from _nodes(value, (*path, key))


def _parent(tree, path):
    for key in path[:-1]:
        tree = tree[key]
    return tree


def test_a_misspelt_field_anywhere_is_refused():
    right = manifest(plan(slices=2, spot=True))
    paths = list(_nodes(right))
    assert len(paths) > 50
    for path in paths:
        wrong = copy.deepcopy(right)
        parent = _parent(wrong, path)
        parent[path[-1] + "x"] = parent.pop(path[-1])
        with pytest.raises(ValueError):
            check(wrong)


def test_a_wrong_type_anywhere_is_refused():
    right = manifest(plan(slices=2, spot=True))
    tried = 0
    for path in _nodes(right):
        value = _parent(right, path)[path[-1]]
        if isinstance(value, int | str):
            wrong = copy.deepcopy(right)
            _parent(wrong, path)[path[-1]] = str(value) if isinstance(value, int) else 7
            with pytest.raises(ValueError):
                check(wrong)
            tried += 1
    assert tried > 20


def test_the_manifest_says_what_multi_host_training_needs():
    found = manifest(plan("v5p:2x2x2", slices=3, spot=True, restarts=4))
    assert found["metadata"]["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }
    (group,) = found["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    assert group["replicas"] == 3 and job["parallelism"] == job["completions"] == 2 and job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] >= 60
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "2x2x2",
        "cloud.google.com/gke-spot": "true",
    }
    (container,) = pod["containers"]
    assert container["resources"] == {"requests": {"google.com/tpu": 4}, "limits": {"google.com/tpu": 4}}
    assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]
    alone = manifest(plan("v6e:2x4"))
    assert "annotations" not in alone["metadata"]
    assert "nodeSelector" in alone["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def test_what_was_stopped_starts_again_for_nothing_and_what_fails_a_few_times():
    """75, which `launch.train --tell-stopped` exits with, fails the job for the reason that is not counted."""
    spec = manifest(plan(restarts=4))["spec"]
    rules = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [75]}
    assert rules[1]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert all(rule["action"] == "FailJob" for rule in rules) and len(rules) == 2
    policy = spec["failurePolicy"]
    assert policy["maxRestarts"] == 4 and policy["restartStrategy"] == "BlockingRecreate"
    (rule,) = policy["rules"]
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"] and rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the command here; returns its exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["gke", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run(main)
        return ended.value.code, *capsys.readouterr()

    return run


COMMAND = (
    "--name=align", "--image=i", "--topology=v5e:4x4", "--bucket=bkt", "--workdir=/mnt/share/a",
    "--config=configs/embedded_gated.py",
)  # fmt: skip


def test_the_command_prints_the_manifest_and_what_it_costs(call):
    code, out, errors = call(*COMMAND, "--slices=2", "--config.steps=7")
    assert code == 0, errors
    command = (
        "python -m launch.train --config=configs/embedded_gated.py --workdir=/mnt/share/a --distributed=auto "
        "--tell-stopped --config.steps=7"
    )
    found = yaml.safe_load(out)
    assert found == manifest(plan(slices=2, image="i", command=tuple(command.split())))
    assert "32 chips on 8 nodes ct5lp-hightpu-4t" in errors and "cost money" in errors


@pytest.mark.parametrize(
    "changes, named",
    [
        (["--config.stesp=7"], "stesp"),
        (["--config.optimizer.learning_rate=-1"], "learning_rate"),
        (["--workdir=/elsewhere/a"], "/elsewhere/a"),
        (["--workdir=gs://bkt/a"], "gs://bkt/a"),
        (["--workdir=/mnt/share/../a"], "/mnt/share/../a"),
        (["--topology=v5e:3x3"], "v5e:3x3"),
        (["--topology=v5e"], "'v5e'"),
        (["--topology=v5e:2x4", "--slices=2"], "--slices=2"),
        (["--claim=c"], "--claim"),
        (["--name=Align"], "--name=Align"),
        (["--slices=two"], "--slices"),
        (["--slices=0"], "--slices"),
        (["--restarts=-1"], "--restarts"),
        (["--bucket=-o"], "--bucket=-o"),
        (["--bucket=bkt\n"], "--bucket=bkt\\n"),
        (["--bucket="], "--bucket"),
        (["--image=-v x"], "--image=-v x"),
        (["--mount=/mnt/share,ro"], "--mount=/mnt/share,ro"),
        (["--service-account=a b"], "--service-account=a b"),
        (["--config.template=chtml"], "chtml"),
        (["--config.data.mixture.embedded=nan"], "nan"),
        (["--config=README.md"], "README.md"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(call, changes, named):
    code, out, errors = call(*COMMAND, *changes)
    assert code == 2 and not out, errors
    (line,) = errors.splitlines()
    assert line.startswith("error: ") and named in line


# --- slices -----------------------------------------------------------------------------------------------------------

# As Google Cloud's pages have them: chips, hosts, accelerator type of the TPU API, GKE's label, machine type.
KNOWN = {
    "v5e:1x1": (1, 1, "v5litepod-1", "tpu-v5-lite-podslice", "ct5lp-hightpu-1t"),
    "v5e:2x2": (4, 1, "v5litepod-4", "tpu-v5-lite-podslice", "ct5lp-hightpu-4t"),
    "v5e:2x4": (8, 1, "v5litepod-8", "tpu-v5-lite-podslice", "ct5lp-hightpu-8t"),
    "v5e:4x4": (16, 4, "v5litepod-16", "tpu-v5-lite-podslice", "ct5lp-hightpu-4t"),
    "v5e:4x8": (32, 8, "v5litepod-32", "tpu-v5-lite-podslice", "ct5lp-hightpu-4t"),
    "v5e:16x16": (256, 64, "v5litepod-256", "tpu-v5-lite-podslice", "ct5lp-hightpu-4t"),
    "v5p:2x2x1": (4, 1, "v5p-8", "tpu-v5p-slice", "ct5p-hightpu-4t"),
    "v5p:2x2x2": (8, 2, "v5p-16", "tpu-v5p-slice", "ct5p-hightpu-4t"),
    "v5p:2x4x4": (32, 8, "v5p-64", "tpu-v5p-slice", "ct5p-hightpu-4t"),
    "v5p:4x4x4": (64, 16, "v5p-128", "tpu-v5p-slice", "ct5p-hightpu-4t"),
    "v5p:16x16x24": (6144, 1536, "v5p-12288", "tpu-v5p-slice", "ct5p-hightpu-4t"),
    "v6e:1x1": (1, 1, "v6e-1", "tpu-v6e-slice", "ct6e-standard-1t"),
    "v6e:2x2": (4, 1, "v6e-4", "tpu-v6e-slice", "ct6e-standard-4t"),
    "v6e:2x4": (8, 1, "v6e-8", "tpu-v6e-slice", "ct6e-standard-8t"),
    "v6e:4x4": (16, 4, "v6e-16", "tpu-v6e-slice", "ct6e-standard-4t"),
    "v6e:16x16": (256, 64, "v6e-256", "tpu-v6e-slice", "ct6e-standard-4t"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_slices_are_as_published_here_and_in_the_script(name):
    found = Slice.parse(name)
    assert (found.chips, found.hosts, found.accelerator_type, found.gke_accelerator, found.machine_type) == KNOWN[name]
    assert found.hosts * found.chips_per_host == found.chips
    create = ["create", "--name=a", "--zone=us-west4-a", f"--type={found.accelerator_type}", "--dry-run"]
    script = subprocess.run(
        ["bash", str(ROOT / "launch/pods/tpu_vm.sh"), *create], capture_output=True, text=True, check=True
    )
    assert re.search(rf"{found.accelerator_type}, {found.chips} chips on {found.hosts} worker", script.stderr)


def test_every_chip_has_slices_and_no_others_are_made():
    assert {name.partition(":")[0] for name in KNOWN} == set(CHIPS)
    flat = {"1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"}
    for kind, (a, b) in itertools.product(("v5e", "v6e"), itertools.product(range(1, 33), repeat=2)):
        if f"{a}x{b}" not in flat:
            with pytest.raises(InputError):
                Slice(kind, f"{a}x{b}")
    for shape in ("2x2", "1x1x1", "2x2x3", "8x4x4", "4x4x6", "0x4x4", "16x16x28", "4x4x4x4", "axbxc", ""):
        with pytest.raises(InputError):
            Slice("v5p", shape)
    with pytest.raises(InputError):
        Slice("v4", "2x2x1")
