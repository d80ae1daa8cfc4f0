"""A stand-in for gcloud, for tests: notes each call, answers from files beside it, refuses flags that gcloud lacks.

    calls         one JSON list for each call
    slice_states  what `queued-resources describe` says, a line for each time it is asked; the last one stays
    vm_state, workers, namespace    what `tpu-vm describe`, the workers' status and `buckets describe` say
    fails         words of a call that is to fail

An empty state is answered as gcloud answers where there is no such thing.
"""

import json
import pathlib
import sys

FLAGS = {  # as `gcloud … --help` of version 528 lists them, so far as the scripts use them
    "compute tpus queued-resources create": "node-id zone project accelerator-type runtime-version spot reserved network",
    "compute tpus queued-resources describe": "zone project format",
    "compute tpus queued-resources delete": "zone project force quiet",
    "compute tpus tpu-vm describe": "zone project format",
    "compute tpus tpu-vm scp": "zone project worker",
    "compute tpus tpu-vm ssh": "zone project worker command",
    "storage buckets describe": "format",
}


def main(here: pathlib.Path, arguments: list[str]) -> int:
    with open(here / "calls", "a", encoding="utf-8") as file:
        file.write(json.dumps(arguments) + "\n")
    verb = next((verb for verb in FLAGS if arguments[: len(verb.split())] == verb.split()), None)
    flags = [a.partition("=")[0][2:] for a in arguments if a.startswith("--")]
    if verb is None or set(flags) - set(FLAGS[verb].split()):
        print(f"ERROR: (gcloud) unrecognized arguments: {arguments}", file=sys.stderr)
        return 2
    if (here / "fails").exists() and (here / "fails").read_text() in " ".join(arguments):
        print("ERROR: (gcloud) PERMISSION_DENIED", file=sys.stderr)
        return 1
    answer = "-"
    if verb == "compute tpus queued-resources describe":
        states = (here / "slice_states").read_text().split("\n")
        answer = states[0]
        if len(states) > 1:
            (here / "slice_states").write_text("\n".join(states[1:]))
    elif verb == "compute tpus tpu-vm describe":
        answer = (here / "vm_state").read_text()
    elif verb == "storage buckets describe":
        answer = (here / "namespace").read_text()
    elif "worker.sh status" in arguments[-1]:
        answer = (here / "workers").read_text()
    if not answer:
        print("ERROR: (gcloud) NOT_FOUND: Resource was not found", file=sys.stderr)
        return 1
    print(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(__file__).parent, sys.argv[1:]))
