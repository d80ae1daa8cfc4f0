"""Prints the manifest that trains on TPU slices of a GKE cluster, a JobSet:

    python -m launch.gke --name=align --image=IMAGE --topology=v5e:4x4 --bucket=BUCKET --workdir=/mnt/share/align \\
        --config=configs/NAME.py [--config.key=value …] | kubectl apply -f -

Checks the config here, before anything costs money. DIR lies below --mount, where all hosts see the bucket (it needs
a hierarchical namespace) or the claim (ReadWriteMany). A preempted run starts again by itself and resumes, as often as
it takes; a failed one --restarts times. Image, cluster and costs: docs/launching.md.
"""

import dataclasses
import pathlib
import re
import sys

import yaml

from launch import cli
from launch.check import check_config
from safety_align.errors import InputError
from safety_align.pod.slices import Slice

CONTAINER = "train"
SAVING_S = 120
"""Seconds between SIGTERM and SIGKILL."""

# Every host must see at once what another has written: nothing about files is cached, nor that there is none.
MOUNT_OPTIONS = "metadata-cache:ttl-secs:0,metadata-cache:negative-ttl-secs:0"


_LABEL = "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
FORMS = {
    "image": "[A-Za-z0-9][A-Za-z0-9._:/@-]{0,499}",
    "mount": "(/[A-Za-z0-9._][A-Za-z0-9._-]*)+",
    "bucket": "[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]",
    "claim": _LABEL,
    "service-account": _LABEL,
}
"""What names may be: none that begins with a dash or holds a space, and is taken for an option on its way."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to run where.

    name: of the JobSet; image: has this project at its working directory; slice, slices: the chips; command: the
    container's; mount: where the shared directory is; bucket or claim: what it is; service_account: of Kubernetes, with
    access to the bucket; spot: chips that may be taken away; restarts: after failures, preemptions aside.
    """

    name: str
    image: str
    slice: Slice
    slices: int
    command: tuple[str, ...]
    mount: str
    bucket: str | None = None
    claim: str | None = None
    service_account: str | None = None
    spot: bool = False
    restarts: int = 5

    def __post_init__(self):
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", self.name):
            raise InputError(f"--name={self.name}: up to 40 lower-case letters, digits and -, a letter first")
        if self.slices < 1 or self.restarts < 0:
            raise InputError(f"--slices={self.slices} must be at least 1, --restarts={self.restarts} not negative")
        if self.slices > 1 and self.slice.hosts == 1:
            raise InputError(f"--slices={self.slices}: GKE joins only slices of several hosts, not {self.slice.shape}")
        if bool(self.bucket) == bool(self.claim):
            raise InputError("give --bucket=NAME or --claim=NAME: where the run lives")
        if self.bucket and self.bucket.startswith("gs://"):
            raise InputError(f"--bucket={self.bucket}: give the bucket's name alone, without gs://")
        for option, form in FORMS.items():
            value = getattr(self, option.replace("-", "_"))
            if value is not None and not re.fullmatch(form, value):
                raise InputError(f"--{option}={value} is no such name: {form}")


def manifest(plan: Plan) -> dict:
    """The JobSet of a plan, as Kubernetes reads it."""
    many = plan.slices * plan.slice.hosts > 1
    metadata = {"name": plan.name}
    if many:  # the hosts of a slice on one node pool, and no two slices on the same
        key = "alpha.jobset.sigs.k8s.io/exclusive-topology"
        metadata["annotations"] = {key: "cloud.google.com/gke-nodepool"}
    job = {
        "parallelism": plan.slice.hosts,
        "completions": plan.slice.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # a host alone cannot start again: all of them do, by the failure policy below
        # What fails a job as "PodFailurePolicy" is no fault of the run: it was stopped and saved, or its node went away.
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [cli.EXIT_STOPPED]},
                },
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": _pod(plan),
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "successPolicy": {"operator": "All"},
            "failurePolicy": {
                "maxRestarts": plan.restarts,
                "restartStrategy": "BlockingRecreate",  # old and new processes never write the same directory
                "rules": [
                    {
                        "name": "preempted",
                        "action": "RestartJobSetAndIgnoreMaxRestarts",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [{"name": "slice", "replicas": plan.slices, "template": {"spec": job}}],
        },
    }


def _pod(plan: Plan) -> dict:
    chips = {"google.com/tpu": plan.slice.chips_per_host}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": SAVING_S,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": plan.slice.gke_accelerator,
            "cloud.google.com/gke-tpu-topology": plan.slice.shape,
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": plan.image,
                "command": list(plan.command),
                "ports": [{"containerPort": 8471}, {"containerPort": 8080}, {"containerPort": 8482}],
                "resources": {"requests": dict(chips), "limits": dict(chips)},
                "volumeMounts": [{"name": "share", "mountPath": plan.mount}],
            }
        ],
    }
    metadata = {}
    if plan.spot:
        spec["nodeSelector"]["cloud.google.com/gke-spot"] = "true"
        spec["tolerations"] = [
            {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
        ]
    if plan.service_account:
        spec["serviceAccountName"] = plan.service_account
    if plan.claim:
        volume = {"persistentVolumeClaim": {"claimName": plan.claim}}
    else:
        attributes = {"bucketName": plan.bucket, "mountOptions": MOUNT_OPTIONS}
        volume = {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}
        # No limits for the container that serves the bucket: a checkpoint passes through it.
        limits = {f"gke-gcsfuse/{what}-limit": "0" for what in ("cpu", "memory", "ephemeral-storage")}
        metadata = {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true", **limits}}}
    spec["volumes"] = [{"name": "share", **volume}]
    return metadata | {"spec": spec}


def _train_command(arguments, overrides: list[str]) -> tuple[str, ...]:
    """The command of every host."""
    if pathlib.PurePosixPath(arguments.config).is_absolute():
        raise InputError(f"--config={arguments.config}: give a path below the project, as the image has it")
    workdir, mount = (pathlib.PurePosixPath(p) for p in (arguments.workdir, arguments.mount))
    if not mount.is_absolute() or mount not in workdir.parents or ".." in workdir.parts:
        raise InputError(
            f"--workdir={arguments.workdir} must be below --mount={arguments.mount}, which all hosts share"
        )
    options = (f"--config={arguments.config}", f"--workdir={arguments.workdir}", "--distributed=auto", "--tell-stopped")
    return ("python", "-m", "launch.train", *options, *overrides)


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--name", required=True, help="of the JobSet")
    parser.add_argument("--image", required=True, help="made by launch/pods/Dockerfile")
    parser.add_argument("--topology", required=True, metavar="KIND:AxB", help="v5e:4x4, v5p:2x2x2, v6e:2x4, …")
    parser.add_argument(
        "--slices", type=cli.integer(1), default=1, metavar="N", help="joined by the network; default: %(default)s"
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="override with --config.key=value")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="where the run lives, below --mount")
    parser.add_argument("--mount", default="/mnt/share", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--bucket", metavar="NAME", help="mounted with the Cloud Storage FUSE driver")
    parser.add_argument("--claim", metavar="NAME", help="a PersistentVolumeClaim, in place of a bucket")
    parser.add_argument("--service-account", metavar="NAME", help="of Kubernetes, with access to the bucket")
    parser.add_argument("--spot", action="store_true", help="chips that may be taken away")
    parser.add_argument(
        "--restarts", type=cli.integer(0), default=5, metavar="N", help="after failures; default: %(default)s"
    )
    arguments, overrides = parser.parse_known_args()
    plan = Plan(
        name=arguments.name,
        image=arguments.image,
        slice=Slice.parse(arguments.topology),
        slices=arguments.slices,
        command=_train_command(arguments, overrides),
        mount=arguments.mount,
        bucket=arguments.bucket,
        claim=arguments.claim,
        service_account=arguments.service_account,
        spot=arguments.spot,
        restarts=arguments.restarts,
    )
    check_config(arguments.config, overrides)
    chips, nodes = plan.slices * plan.slice.chips, plan.slices * plan.slice.hosts
    print(
        f"{plan.slices} x {arguments.topology}: {chips} chips on {nodes} nodes {plan.slice.machine_type}, "
        f"{'spot' if plan.spot else 'on demand'}. Nothing is started yet. Once applied, the nodes cost money until the "
        f"node pools are gone; kubectl delete jobset {plan.name} ends the run.",
        file=sys.stderr,
    )
    yaml.safe_dump(manifest(plan), sys.stdout, sort_keys=False, width=120)
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
