"""launch/pods: the exact commands for TPU VMs, given to a stand-in for gcloud; what a worker does, for real."""

import json
import os
import pathlib
import pty
import shlex
import shutil
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT, WORKER = (ROOT / "launch" / "pods" / name for name in ("tpu_vm.sh", "worker.sh"))
NAME = ("--name=align", "--zone=us-west4-a")
SLICE = (*NAME, "--type=v5litepod-16", "--spot", "--bucket=bkt", "--poll=0")
TRAINING = ("--", "--config=configs/embedded_gated.py", "--workdir=/mnt/share/a b", "--config.init_from=it's")

QUEUED, VM = ["compute", "tpus", "queued-resources"], ["compute", "tpus", "tpu-vm"]
ZONE = "--zone=us-west4-a"
BUCKET = ["storage", "buckets", "describe", "gs://bkt", "--format=value(hierarchical_namespace.enabled)"]
CREATE = [*QUEUED, "create", "align", "--node-id=align", ZONE, "--accelerator-type=v5litepod-16",
    "--runtime-version=v2-alpha-tpuv5-lite", "--spot"]  # fmt: skip
LOOK = [*QUEUED, "describe", "align", ZONE, "--format=value(state.state)"]
LOOK_VM = [*VM, "describe", "align", ZONE, "--format=value(state)"]
DELETE = [*QUEUED, "delete", "align", ZONE, "--force", "--quiet"]
CALL = "bash safety_align/launch/pods/worker.sh"


def ssh(command: str, worker: str = "all") -> list[str]:
    return [*VM, "ssh", "align", ZONE, f"--worker={worker}", f"--command={command}"]


UNPACK = "mkdir -p safety_align && tar -xzf safety_align.tar.gz -C safety_align"
INSTALL = [
    [*VM, "scp", "TARBALL", "align:safety_align.tar.gz", ZONE, "--worker=all"],
    ssh(f"{UNPACK} && {CALL} install --bucket=bkt --mount=/mnt/share"),
]
RUN = ssh(f"{CALL} start {shlex.join(TRAINING[1:])} --distributed=auto --tell-stopped".replace("'\"'\"'", "'\\''"))
LOOK_RUNS = ssh(f"{CALL} status 2>/dev/null || echo none")
STATUS = ssh(f"{CALL} status")


@pytest.fixture
def cloud(tmp_path):
    """A directory with the stand-in; its files say what state things are in."""
    (tmp_path / "gcloud").write_text(f"#!{sys.executable}\n" + (ROOT / "tests" / "fake_gcloud.py").read_text())
    (tmp_path / "gcloud").chmod(0o755)
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@" >>"$0.calls"\n')  # finds nothing wrong with any config
    (tmp_path / "python").chmod(0o755)
    for name, text in dict(slice_states="ACTIVE", vm_state="READY", namespace="True", workers="none").items():
        (tmp_path / name).write_text(text)
    return tmp_path


def call(cloud, *arguments: str, **options) -> subprocess.CompletedProcess:
    environment = dict(
        os.environ, PATH=f"{cloud}:{os.environ['PATH']}", TMPDIR=str(cloud), PYTHON=str(cloud / "python")
    )
    environment |= options.pop("env", {})
    options.setdefault("stdin", subprocess.DEVNULL)
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cloud, **options)


def calls(cloud) -> list[list[str]]:
    """What gcloud was asked, the tarball's name aside."""
    path = cloud / "calls"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [["TARBALL" if a.endswith("safety_align-align.tar.gz") else a for a in one] for one in found]


VERBS = {
    "create": (SLICE, [CREATE]),
    "wait": (SLICE, [LOOK]),
    "install": (SLICE, [BUCKET, *INSTALL]),
    "run": ((*SLICE, *TRAINING), [RUN]),
    "up": ((*SLICE, *TRAINING), [BUCKET, CREATE, LOOK, *INSTALL, RUN]),
    "status": (NAME, [LOOK, LOOK_VM, STATUS]),
    "logs": ((*NAME, "--worker=2", "--follow"), [ssh(f"{CALL} log --follow", "2")]),
    "stop": (NAME, [ssh(f"{CALL} stop")]),
    "delete": (NAME, [DELETE]),
}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_calls_exactly_what_it_has_shown(cloud, verb):
    arguments, expected = VERBS[verb]
    done = call(cloud, verb, "--yes", *arguments)
    assert done.returncode == 0, done.stderr
    assert calls(cloud) == expected
    shown = [shlex.split(line[2:], comments=True) for line in done.stderr.splitlines() if line.startswith("+ gcloud")]
    shown = [["TARBALL" if "tar.gz" in a and "/" in a and " " not in a else a for a in one[1:]] for one in shown]
    assert shown == expected
    assert "costs money" in done.stderr and "launch/pods/tpu_vm.sh delete --name=align --zone=us-west4-a" in done.stderr
    if "--type=v5litepod-16" in arguments:
        assert "v5litepod-16, 16 chips on 4 worker(s), spot" in done.stderr
    assert not list(cloud.glob("*.tar.gz"))


@pytest.mark.parametrize("verb", [*VERBS, "resume"])
def test_a_dry_run_shows_the_same_and_calls_nothing(cloud, verb):
    arguments = VERBS[verb][0] if verb in VERBS else (*SLICE, *TRAINING)
    dry = call(cloud, verb, "--dry-run", *arguments)
    assert dry.returncode == 0 and not (cloud / "calls").exists() and not dry.stdout
    assert "costs money" in dry.stderr and "+ gcloud" in dry.stderr
    if verb in VERBS:
        assert dry.stderr == call(cloud, verb, "--yes", *arguments).stderr.replace("align: ACTIVE\n", "")


RECREATE = [BUCKET, DELETE, CREATE, LOOK, *INSTALL, RUN]


@pytest.mark.parametrize(
    "states, vm, workers, expected",
    [
        ("SUSPENDED\nACTIVE", "", "", [LOOK, *RECREATE]),
        ("FAILED\nACTIVE", "", "", [LOOK, *RECREATE]),
        ("SUSPENDING\nSUSPENDED\nACTIVE", "", "", [LOOK, LOOK, *RECREATE]),
        ("ACTIVE", "PREEMPTED", "", [LOOK, LOOK_VM, *RECREATE]),
        ("ACTIVE", "", "", [LOOK, LOOK_VM, *RECREATE]),
        ("\nACTIVE", "", "", [LOOK, BUCKET, CREATE, LOOK, *INSTALL, RUN]),
        ("WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE", "", "", [LOOK, BUCKET, LOOK, LOOK, *INSTALL, RUN]),
        ("ACTIVE", "READY", "SSH: connected\nstopped\nstopped", [LOOK, LOOK_VM, LOOK_RUNS, BUCKET, *INSTALL, RUN]),
        ("ACTIVE", "READY", "failed 1\nfinished", [LOOK, LOOK_VM, LOOK_RUNS, BUCKET, *INSTALL, RUN]),
        ("ACTIVE", "READY", "none\nnone", [LOOK, LOOK_VM, LOOK_RUNS, BUCKET, *INSTALL, RUN]),
        ("ACTIVE", "READY", "running\nrunning", [LOOK, LOOK_VM, LOOK_RUNS]),
        ("ACTIVE", "READY", "finished\nfinished", [LOOK, LOOK_VM, LOOK_RUNS]),
        ("ACTIVE", "READY", "running\nfailed 1", [LOOK, LOOK_VM, LOOK_RUNS]),  # the other will notice, and end
    ],
    ids=lambda value: value.replace("\n", " ") if isinstance(value, str) else "",
)
def test_resume_does_what_the_slice_needs_and_no_more(cloud, states, vm, workers, expected):
    for name, text in dict(slice_states=states, vm_state=vm, workers=workers).items():
        (cloud / name).write_text(text)
    done = call(cloud, "resume", "--yes", *SLICE, *TRAINING)
    assert done.returncode == 0, done.stderr
    assert calls(cloud) == expected


@pytest.mark.parametrize("verb", ["up", "create", "resume", "delete"])
def test_nothing_is_bought_or_deleted_unasked(cloud, verb):
    (cloud / "slice_states").write_text("SUSPENDED")
    arguments = {"delete": NAME, "create": SLICE}.get(verb, (*SLICE, *TRAINING))
    done = call(cloud, verb, *arguments)
    assert done.returncode == 2 and "give --yes" in done.stderr.splitlines()[-1]
    assert all(one == LOOK for one in calls(cloud))


@pytest.mark.parametrize("answer, code, expected", [("no", 1, []), ("y", 1, []), ("yes", 0, [CREATE])])
def test_at_a_terminal_it_asks(cloud, answer, code, expected):
    here, there = pty.openpty()
    os.write(here, f"{answer}\n".encode())
    done = call(cloud, "create", *SLICE, stdin=there)
    os.close(here), os.close(there)
    assert "This costs money. Go on?" in done.stderr
    assert done.returncode == code and calls(cloud) == expected


def test_a_failure_ends_what_would_follow(cloud):
    (cloud / "fails").write_text(" scp ")
    done = call(cloud, "up", "--yes", *SLICE, *TRAINING)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: this failed: gcloud compute tpus")
    assert calls(cloud) == [BUCKET, CREATE, LOOK, INSTALL[0]] and not list(cloud.glob("*.tar.gz"))


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED", ""])
def test_waiting_for_a_slice_that_does_not_come_ends(cloud, state):
    (cloud / "slice_states").write_text(f"PROVISIONING\n{state}")
    done = call(cloud, "wait", *NAME, "--poll=0")
    assert done.returncode == 1 and "resume" in done.stderr.splitlines()[-1]


def test_an_error_is_not_taken_for_absence(cloud):
    (cloud / "fails").write_text("describe")
    done = call(cloud, "resume", "--yes", *SLICE, *TRAINING)
    assert done.returncode == 1 and "PERMISSION_DENIED" in done.stderr and calls(cloud) == [LOOK]


def test_a_flat_bucket_is_refused_before_anything_is_bought(cloud):
    (cloud / "namespace").write_text("\n")
    done = call(cloud, "up", "--yes", *SLICE, *TRAINING)
    assert done.returncode == 2 and "hierarchical namespace" in done.stderr.splitlines()[-1]
    assert calls(cloud) == [BUCKET]


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["fly"], "'fly'"),
        (["create", *NAME], "--type"),
        (["create", *NAME, "--type=v4-8"], "v4-8"),
        (["create", *NAME, "--type=v5litepod-12"], "v5litepod-12"),
        (["create", *NAME, "--type=v5p-12"], "v5p-12"),
        (["create", *SLICE, "--reserved"], "--reserved"),
        (["create", *SLICE, *TRAINING], "no arguments after --"),
        (["create", "--name=A b", ZONE, "--type=v6e-8"], "'A b'"),
        (["create", "--name=a", "--zone=here", "--type=v6e-8"], "'here'"),
        (["create", *SLICE, "--sopt"], "--sopt"),
        (["install", *NAME], "--bucket"),
        (["install", *NAME, "--bucket=gs://b"], "gs://"),
        (["install", *NAME, "--bucket=b;rm"], "--bucket"),
        (["install", *SLICE, "--nfs=a:/b"], "--nfs"),
        (["run", *NAME], "--workdir"),
        (["run", *NAME, "--", "--config=configs/embedded_gated.py", "--workdir=gs://b/x"], "gs://b/x"),
        (["run", *NAME, "--", "--config=configs/embedded_gated.py", "--workdir=/mnt/share/../x"], "/mnt/share/../x"),
        (["run", *NAME, "--", "--config=configs/none.py", "--workdir=/mnt/share/x"], "configs/none.py"),
        (["run", *NAME, *TRAINING, "--steps=3"], "--steps=3"),
        (["install", *NAME, "--bucket=-o"], "'-o'"),
        (["install", *NAME, "--bucket=bkt\n"], "--bucket=bkt?"),
        (["install", *NAME, "--bucket="], "--bucket= is empty"),
        (["install", *NAME, "--bucket=a b"], "'a b'"),
        (["install", *NAME, "--nfs=-o:/b"], "'-o:/b'"),
        (["install", *NAME, "--nfs=a:b"], "'a:b'"),
        (["install", *SLICE, "--mount=/mnt/../etc"], "/mnt/../etc"),
        (["install", *SLICE, "--mount=/mnt/-o"], "/mnt/-o"),
        (["create", *SLICE, "--runtime=-x"], "'-x'"),
        (["create", *SLICE, "--project=-x"], "--project=-x"),
        (["create", *SLICE, "--project=a b"], "a b"),
        (["create", *SLICE, "--type=v5p-99999999999999999999"], "v5p-99999999999999999999"),
        (["create", "--name=a\n", ZONE, "--type=v6e-8"], "--name=a?"),
        (["create", *SLICE, "--\x1b[2J"], "--?[2J"),
        (["run", *NAME, *TRAINING, "--config.init_from=a\nb"], "a?b"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(cloud, arguments, named):
    done = call(cloud, arguments[0], "--yes", *arguments[1:])
    assert done.returncode == 2 and not calls(cloud)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and named in line


@pytest.mark.parametrize("verb", ["up", "run", "resume"])
def test_the_config_is_checked_before_anything_is_bought(cloud, verb):
    assert call(cloud, verb, "--yes", *SLICE, *TRAINING).returncode == 0
    asked = (cloud / "python.calls").read_text().splitlines()
    assert asked[1] == "-m launch.check --config=configs/embedded_gated.py --config.init_from=it's"
    (cloud / "python").write_text('#!/bin/sh\n[ "$1" = -c ] && exit\necho "error: steps is wrong" >&2; exit 2\n')
    (cloud / "calls").unlink()
    done = call(cloud, verb, "--yes", *SLICE, *TRAINING)
    assert (done.returncode, done.stderr) == (2, "error: steps is wrong\n") and not calls(cloud)
    (cloud / "python").write_text("#!/bin/sh\nexit 1\n")
    assert "config is not checked here" in call(cloud, verb, "--dry-run", *SLICE, *TRAINING).stderr
    assert not [path for path in cloud.iterdir() if path.name.startswith("tmp.")]


@pytest.mark.slow
def test_the_check_is_that_of_launch_train(cloud):
    wrong = (*TRAINING[:3], "--config.stesp=3")
    done = call(cloud, "run", "--yes", *NAME, *wrong, env={"PYTHON": sys.executable})
    assert done.returncode == 2 and not calls(cloud)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: unknown config key 'stesp'")


def test_help(cloud):
    done = call(cloud, "--help")
    assert done.returncode == 0 and all(f"\n{verb} " in done.stdout for verb in [*VERBS, "resume"])


# --- on a worker ------------------------------------------------------------------------------------------------------

PYTHON = """#!/usr/bin/env bash
echo "asked: $*"
trap 'echo saved; exit 75' TERM
for argument in "$@"; do case $argument in --exit=*) exit "${argument#*=}" ;; esac; done
while true; do sleep 0.05; done
"""


@pytest.fixture
def worker(tmp_path):
    """Calls worker.sh in a project whose python is a stand-in."""
    project = tmp_path / "project"
    (project / "launch" / "pods").mkdir(parents=True)
    shutil.copy(WORKER, project / "launch" / "pods")
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").write_text(PYTHON)
    (project / ".venv" / "bin" / "python").chmod(0o755)

    def call(*arguments: str) -> subprocess.CompletedProcess:
        command = ["bash", str(project / "launch" / "pods" / "worker.sh"), *arguments]
        environment = dict(os.environ, HOME=str(tmp_path))
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=20)

    yield call
    call("stop")


def settled(worker) -> str:
    """The status once it is not running."""
    end = time.monotonic() + 20
    while (status := worker("status").stdout.strip()) == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    return status


def log_with(worker, text: str) -> str:
    """The log once `text` is in it."""
    end = time.monotonic() + 20
    while text not in (log := worker("log").stdout):
        assert time.monotonic() < end, log
        time.sleep(0.05)
    return log


def test_a_run_on_a_worker_outlives_its_start_and_stops_saved(worker):
    assert worker("status").stdout == "none\n"
    started = worker("start", "--workdir=/a b", "--config.x=it's")
    assert started.returncode == 0 and "started" in started.stdout  # and its output was closed: start has returned
    assert "asked: -m launch.train --workdir=/a b --config.x=it's" in log_with(worker, "asked")
    assert worker("status").stdout == "running\n"
    again = worker("start")
    assert again.returncode == 1 and "under way" in again.stderr
    assert worker("stop").returncode == 0
    assert settled(worker) == "stopped" and "saved" in worker("log").stdout
    assert "not running" in worker("stop").stdout


@pytest.mark.parametrize("code, status", [(0, "finished"), (75, "stopped"), (1, "failed 1"), (2, "failed 2")])
def test_a_worker_tells_how_the_run_ended(worker, code, status):
    assert worker("start", f"--exit={code}").returncode == 0
    assert settled(worker) == status
    assert worker("start").returncode == 0 and worker("status").stdout == "running\n"


@pytest.mark.parametrize(
    "arguments, named", [(["fly"], "fly"), ([], "unknown verb"), (["install", "--bukcet=b"], "--bukcet=b")]
)
def test_bad_input_of_a_worker(worker, arguments, named):
    done = worker(*arguments)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and named in done.stderr
