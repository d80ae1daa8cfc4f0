#!/usr/bin/env bash
# Training on a TPU VM slice from a laptop, by gcloud's queued resources; --help says how.
set -euo pipefail

usage() {
  cat <<'END'
Trains on a TPU VM slice, from a laptop:

    launch/pods/tpu_vm.sh up --name=align --zone=us-west4-a --type=v5litepod-16 --spot --bucket=BUCKET \
        -- --config=configs/NAME.py --workdir=/mnt/share/align [--config.key=value …]

up        create, wait, install and run, in one
create    asks for the slice; it is queued until there is room
wait      returns once the slice is there
install   sends the commit HEAD to all workers, makes a virtual environment, mounts the shared directory
run       starts python -m launch.train with the arguments after -- on all workers; it outlives this command
status    of the slice, and of the run on each worker
logs      the last lines of a worker's log
stop      SIGTERM on all workers: the run saves and ends
resume    after a preemption: deletes what is left, then as up; or installs and runs again where only the run ended.
          The same arguments resume from the newest checkpoint. Where the run goes on or is finished, does nothing.
delete    deletes the slice, which ends its costs

--name=NAME --zone=ZONE [--project=PROJECT]    always; without --project, gcloud's own setting
--type=TYPE        v5litepod-16, v5p-8, v6e-16, …; for up, create, resume
--spot             cheaper, and may be taken away at any time; --reserved: of a reservation; else on demand
--runtime=NAME     of the VM; default: what Google recommends for the type
--create=FLAG      handed to gcloud's create, such as --create=--network=NAME; may be repeated
--bucket=NAME      mounted with gcsfuse as --mount; must have a hierarchical namespace, where renaming a folder, by
                   which a checkpoint becomes complete, is atomic: gcloud storage buckets create gs://NAME
                   --location=REGION --uniform-bucket-level-access --enable-hierarchical-namespace
--nfs=HOST:/SHARE  mounted in its place (Filestore)
--mount=DIR        default /mnt/share; --workdir lies below it, where all workers see the same files
--worker=N         whose log; default 0.  --follow: goes on until Ctrl-C
--poll=SECONDS     between looks while waiting; default 30
--dry-run          prints the commands and does nothing
--yes              does not ask

Every verb prints its commands before it runs them, and asks first where something costs money or is deleted. gcloud
must be signed in; for several workers, ssh-add ~/.ssh/google_compute_engine before. Exit codes: 0 done, 1 failed, 2
bad input.
END
}

fail() { # CODE MESSAGE, which stays one line whatever was typed
  echo "error: ${2//[[:cntrl:]]/?}" >&2
  exit "$1"
}

say() { echo "$*" >&2; }

quoted() { # the words as a shell reads them
  local word text=''
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@%+~-]*) word="'$(printf %s "$word" | sed "s/'/'\\\\''/g")'" ;;
    esac
    text="$text $word"
  done
  echo "${text# }"
}

# --- what is asked for ------------------------------------------------------------------------------------------------

read_options() {
  name='' zone='' type='' runtime='' bucket='' nfs='' mount=/mnt/share worker=0 poll=30
  dry_run=no yes=no
  where=() tier=() extra=() follow=() training=()
  local option
  while [ $# -gt 0 ]; do
    option=$1
    shift
    [[ $option != *[[:cntrl:]]* ]] || fail 2 "$option: no line ends and control characters, please"
    case $option in
      --) training=("$@") && break ;;
      --*=) fail 2 "$option is empty (see --help)" ;;
      --name=*) name=${option#*=} ;;
      --zone=*) zone=${option#*=} ;;
      --project=*) where=("$option") ;;
      --type=*) type=${option#*=} ;;
      --runtime=*) runtime=${option#*=} ;;
      --spot | --reserved) tier+=("$option") ;;
      --create=--?*) extra+=("${option#*=}") ;;
      --bucket=*) bucket=${option#*=} ;;
      --nfs=*) nfs=${option#*=} ;;
      --mount=*) mount=${option#*=} ;;
      --worker=*) worker=${option#*=} ;;
      --follow) follow=(--follow) ;;
      --poll=*) poll=${option#*=} ;;
      --dry-run) dry_run=yes ;;
      --yes) yes=yes ;;
      *) fail 2 "unknown option $option (see --help)" ;;
    esac
  done
  [[ $name =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] || fail 2 "--name='$name': lower-case letters, digits and -, a letter first"
  [[ $zone =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || fail 2 "--zone='$zone' is not a zone such as us-west4-a"
  [[ $worker =~ ^[0-9]{1,5}$ ]] || fail 2 "--worker='$worker' is not a number"
  [[ $poll =~ ^[0-9]{1,5}$ ]] || fail 2 "--poll='$poll' is not a number of seconds"
  [[ $mount =~ ^(/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+$ && $mount/ != */../* ]] || fail 2 "--mount='$mount' is not an absolute path of letters, digits and . _ -"
  [ ${#tier[@]} -le 1 ] || fail 2 "give --spot or --reserved, not both"
  [ -z "$bucket" ] || [ -z "$nfs" ] || fail 2 "give --bucket or --nfs, not both"
  # No value begins with a dash: on its way through gcloud, gcsfuse and mount it would be taken for an option.
  [[ $bucket != gs://* ]] || fail 2 "--bucket='$bucket': give the bucket's name alone, without gs://"
  [[ -z $bucket || $bucket =~ ^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$ ]] || fail 2 "--bucket='$bucket' is no bucket's name"
  [[ -z $nfs || $nfs =~ ^[A-Za-z0-9][A-Za-z0-9.-]*:(/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+$ ]] || fail 2 "--nfs='$nfs' is not of the form HOST:/SHARE"
  [[ -z $runtime || $runtime =~ ^[a-z0-9][a-z0-9.-]*$ ]] || fail 2 "--runtime='$runtime' is no version's name"
  for option in ${where[@]+"${where[@]}"}; do
    [[ $option =~ ^--project=[a-z0-9][a-z0-9.:-]*$ ]] || fail 2 "$option is no project's name"
  done
  if [ -n "$type" ]; then read_type; fi
  where=("--zone=$zone" ${where[@]+"${where[@]}"})
}

read_type() { # sets chips, workers and, unless given, runtime
  local kind=${type%-*} size=${type##*-} default
  [[ $type =~ ^(v5litepod|v5p|v6e)-[1-9][0-9]{0,4}$ ]] || fail 2 "--type='$type' is not one of v5litepod-N, v5p-N, v6e-N"
  case $kind in
    v5litepod) default=v2-alpha-tpuv5-lite ;;
    v5p) default=v2-alpha-tpuv5 ;;
    v6e) default=v2-alpha-tpuv6e ;;
  esac
  if [ "$kind" = v5p ]; then # named by cores, of which a chip has two
    if [ $((size % 8)) -ne 0 ]; then fail 2 "--type=$type: v5p comes in multiples of 8 cores, 4 chips"; fi
    chips=$((size / 2)) workers=$((size / 8))
  else
    case $size in
      1 | 4 | 8) chips=$size workers=1 ;;
      16 | 32 | 64 | 128 | 256) chips=$size workers=$((size / 4)) ;;
      *) fail 2 "--type=$type: $kind comes as 1, 4, 8, 16, 32, 64, 128 or 256 chips" ;;
    esac
  fi
  runtime=${runtime:-$default}
}

need() { # VERB: what it cannot do without
  case $1 in
    up | create | resume) [ -n "$type" ] || fail 2 "$1 needs --type, such as --type=v5litepod-16" ;;
  esac
  case $1 in
    up | install | resume) [ -n "$bucket$nfs" ] || fail 2 "$1 needs --bucket=NAME or --nfs=HOST:/SHARE: the directory that all workers share" ;;
  esac
  case $1 in
    up | run | resume) need_training "$1" ;;
    *) [ ${#training[@]} -eq 0 ] || fail 2 "$1 takes no arguments after --" ;;
  esac
}

need_training() {
  local argument config='' workdir='' asked=()
  for argument in ${training[@]+"${training[@]}"}; do
    [[ $argument != *[[:cntrl:]]* ]] || fail 2 "after --, $argument: no line ends and control characters, please"
    case $argument in
      --config=*) config=${argument#*=} && asked+=("$argument") ;;
      --workdir=*) workdir=${argument#*=} ;;
      --config.*=*) asked+=("$argument") ;;
      --tell-stopped) ;;
      *) fail 2 "after --, $argument is no argument of launch.train on a pod; there are --config, --workdir, --config.key=value" ;;
    esac
  done
  [ -n "$config" ] && [ -n "$workdir" ] || fail 2 "$1 needs the training's arguments: -- --config=configs/NAME.py --workdir=$mount/NAME"
  [[ $workdir == "$mount"/?* && $workdir/ != */../* ]] || fail 2 "--workdir=$workdir must be below --mount=$mount, which all workers share"
  git -C "$root" cat-file -e "HEAD:$config" 2>/dev/null || fail 2 "--config=$config is not in the commit HEAD, which is what the workers get"
  check_config "${asked[@]}"
}

check_config() { # what launch.train would refuse is refused here, before a slice is bought: of HEAD, as the workers get it
  local python=${PYTHON:-python3} copy line
  if ! "$python" -c 'import jax, ml_collections, optax' >/dev/null 2>&1; then
    say "note: $python lacks the project's packages, so the config is not checked here (PYTHON=… names another)"
    return
  fi
  copy=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$copy'" EXIT
  git -C "$root" archive HEAD | tar -x -C "$copy"
  line=$(cd "$copy" && JAX_PLATFORMS=cpu "$python" -m launch.check "$@" 2>&1 >/dev/null) || { line=${line##*$'\n'} && fail 2 "${line#error: }"; }
  rm -rf "$copy"
  trap - EXIT
}

# --- gcloud -----------------------------------------------------------------------------------------------------------

# Steps are functions that hand each command to `act`: the first time it prints them, the second time it runs them.
act() {
  if [ "$showing" = yes ]; then
    say "+ $(quoted "$@")"
  else
    "$@" || fail 1 "this failed: $(quoted "$@")"
  fi
}

queued=(gcloud compute tpus queued-resources)
vm=(gcloud compute tpus tpu-vm)

on_workers() { # WHICH COMMAND
  act "${vm[@]}" ssh "$name" "${where[@]}" "--worker=$1" "--command=$2"
}

look() { # prints what the command prints; nothing where there is no such thing
  local errors found
  errors=$(mktemp)
  if found=$("$@" 2>"$errors"); then
    rm "$errors"
    echo "$found"
    return
  fi
  found=$(cat "$errors")
  rm "$errors"
  [[ $found == *NOT_FOUND* || $found == *"not found"* ]] || fail 1 "$(quoted "$@"): $found"
}

slice_state() { look "${queued[@]}" describe "$name" "${where[@]}" '--format=value(state.state)'; }
vm_state() { look "${vm[@]}" describe "$name" "${where[@]}" '--format=value(state)'; }

create() {
  act "${queued[@]}" create "$name" "--node-id=$name" "${where[@]}" "--accelerator-type=$type" \
    "--runtime-version=$runtime" ${tier[@]+"${tier[@]}"} ${extra[@]+"${extra[@]}"}
}

wait_() {
  if [ "$showing" = yes ]; then
    say "+ $(quoted "${queued[@]}" describe "$name" "${where[@]}" '--format=value(state.state)')    # until ACTIVE"
    return
  fi
  local state before=''
  while true; do
    state=$(slice_state)
    if [ "$state" != "$before" ]; then say "$name: ${state:-gone}"; fi
    before=$state
    case $state in
      ACTIVE) return ;;
      '' | FAILED | SUSPENDING | SUSPENDED | DELETING) fail 1 "$name is ${state:-gone}; resume deletes it and asks again" ;;
    esac
    sleep "$poll"
  done
}

check_bucket() {
  if [ -z "$bucket" ]; then return; fi
  local command=(gcloud storage buckets describe "gs://$bucket" '--format=value(hierarchical_namespace.enabled)')
  if [ "$showing" = yes ]; then
    act "${command[@]}"
    return
  fi
  local answer
  answer=$(look "${command[@]}")
  [[ $answer == [Tt]rue ]] || fail 2 "--bucket=$bucket is not there, or has no hierarchical namespace, without which renaming a checkpoint is not atomic; --help has the command that makes one"
}

install() {
  local tarball=${TMPDIR:-/tmp}/safety_align-$name.tar.gz options="--mount=$mount"
  if [ -n "$bucket" ]; then options="--bucket=$bucket $options"; else options="--nfs=$nfs $options"; fi
  # shellcheck disable=SC2064
  trap "rm -f '$tarball'" EXIT
  act git -C "$root" archive --format=tar.gz -o "$tarball" HEAD
  act "${vm[@]}" scp "$tarball" "$name:safety_align.tar.gz" "${where[@]}" --worker=all
  # shellcheck disable=SC2088
  on_workers all "mkdir -p safety_align && tar -xzf safety_align.tar.gz -C safety_align && bash safety_align/launch/pods/worker.sh install $options"
}

run() {
  on_workers all "bash safety_align/launch/pods/worker.sh start $(quoted "${training[@]}" --distributed=auto --tell-stopped)"
}

stop() { on_workers all "bash safety_align/launch/pods/worker.sh stop"; }

logs() {
  on_workers "$worker" "bash safety_align/launch/pods/worker.sh log${follow[*]+ ${follow[*]}}"
}

status() {
  local state vm_now=READY
  if [ "$showing" = yes ]; then
    act "${queued[@]}" describe "$name" "${where[@]}" '--format=value(state.state)'
    act "${vm[@]}" describe "$name" "${where[@]}" '--format=value(state)'
  else
    state=$(slice_state)
    echo "slice: ${state:-none}"
    if [ -z "$state" ]; then return; fi
    vm_now=$(vm_state)
    echo "VM: ${vm_now:-none}"
  fi
  if [ "$vm_now" = READY ]; then on_workers all "bash safety_align/launch/pods/worker.sh status"; fi
}

delete() { act "${queued[@]}" delete "$name" "${where[@]}" --force --quiet; }

# --- from verb to steps -----------------------------------------------------------------------------------------------

resume_steps() { # sets steps by what has become of the slice
  local state vm_now runs
  steps=(check_bucket delete create wait_ install run)
  if [ "$dry_run" = yes ]; then
    say "if $name was preempted (else less of this):"
    return
  fi
  state=$(slice_state)
  while [[ $state == SUSPENDING || $state == DELETING ]]; do
    say "$name: $state"
    sleep "$poll"
    state=$(slice_state)
  done
  say "$name: ${state:-there is none}"
  case $state in
    SUSPENDED | FAILED) return ;;
    '') steps=(check_bucket create wait_ install run) ;;
    ACTIVE)
      vm_now=$(vm_state)
      say "$name, the VM: ${vm_now:-there is none}"
      case $vm_now in
        READY) ;;
        '' | PREEMPTED | TERMINATED | STOPPED) return ;;
        *) fail 1 "the VM is $vm_now; try again when it has settled" ;;
      esac
      runs=$("${vm[@]}" ssh "$name" "${where[@]}" --worker=all \
        '--command=bash safety_align/launch/pods/worker.sh status 2>/dev/null || echo none') || fail 1 "the workers do not answer"
      runs=$(echo "$runs" | grep -E '^(running|finished|stopped|failed|none)' | sort | uniq -c | sed 's/^ *//' || true)
      say "workers: $(echo "$runs" | paste -sd, -)"
      case $runs in
        *running*) steps=() ;;
        *stopped* | *failed* | *none*) steps=(check_bucket install run) ;;
        *) steps=() ;;
      esac
      ;;
    *) steps=(check_bucket wait_ install run) ;; # still in the queue
  esac
}

introduce() {
  local kind='on demand'
  case "${tier[*]+${tier[*]}}" in
    --spot) kind='spot: may be taken away at any time' ;;
    --reserved) kind='of a reservation' ;;
  esac
  if [ -n "$type" ]; then
    say "$name in $zone: $type, $chips chips on $workers worker(s), $kind"
  fi
  say "$name costs money from the time it is ACTIVE until it is deleted: launch/pods/tpu_vm.sh delete --name=$name $(quoted "${where[@]}")"
}

confirm() {
  local step question='' answer
  for step in "$@"; do
    case $step in
      create) question="This costs money." ;;
      delete) question="${question:-This deletes the VMs and what is on their disks.}" ;;
    esac
  done
  if [ -z "$question" ] || [ "$yes" = yes ]; then return; fi
  if [ ! -t 0 ]; then fail 2 "$question There is no terminal to ask at; give --yes"; fi
  read -r -p "$question Go on? [yes/no] " answer
  [ "$answer" = yes ] || fail 1 "nothing was done"
}

main() {
  local verb=${1:-} step
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  case $verb in
    -h | --help | help) usage && exit ;;
    up | create | wait | install | run | status | logs | stop | resume | delete) shift ;;
    *) fail 2 "unknown verb '$verb'; there are: up, create, wait, install, run, status, logs, stop, resume, delete (see --help)" ;;
  esac
  for step in "$@"; do
    case $step in
      --) break ;;
      -h | --help) usage && exit ;;
    esac
  done
  read_options "$@"
  need "$verb"
  if [ "$dry_run" = no ]; then command -v gcloud >/dev/null || fail 2 "gcloud is not installed: https://cloud.google.com/sdk/docs/install"; fi
  introduce
  case $verb in
    up) steps=(check_bucket create wait_ install run) ;;
    install) steps=(check_bucket install) ;;
    wait) steps=(wait_) ;;
    resume) resume_steps ;;
    *) steps=("$verb") ;;
  esac
  if [ ${#steps[@]} -eq 0 ]; then
    say "nothing to resume: the run goes on, or is finished"
    return
  fi
  if [[ " ${steps[*]} " == *" install "* && -n $(git -C "$root" status --porcelain) ]]; then
    say "note: there are uncommitted changes, which the workers do not get"
  fi
  showing=yes
  for step in "${steps[@]}"; do "$step"; done
  if [ "$dry_run" = yes ]; then return; fi
  confirm "${steps[@]}"
  showing=no
  for step in "${steps[@]}"; do "$step"; done
}

main "$@"
