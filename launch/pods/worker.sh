#!/usr/bin/env bash
# What happens on each worker of a TPU VM; launch/pods/tpu_vm.sh sends this file along and calls it over ssh.
#
#     worker.sh install [--bucket=NAME | --nfs=HOST:/SHARE] [--mount=DIR]    Python, packages, the shared directory
#     worker.sh start ARGUMENTS…    python -m launch.train ARGUMENTS…, which outlives the ssh session
#     worker.sh stop                SIGTERM: the run saves and ends
#     worker.sh status              running | finished | stopped (saved, not at its end) | failed CODE | none
#     worker.sh log [--follow]      what the run prints
#
# Exit codes: 0 done, 1 failed, 2 bad input.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
run=$HOME/safety_align_run # this worker's: log, pid, exit code
stopped=75                 # of launch.train --tell-stopped

fail() { # CODE MESSAGE
  echo "error: $(hostname): $2" >&2
  exit "$1"
}

mount_share() { # KIND SOURCE DIR
  if mountpoint -q "$3"; then return; fi
  sudo mkdir -p "$3"
  if [ "$1" = nfs ]; then
    sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y nfs-common
    # A lock of a VM that was taken away would stay with the server for ever, and keep the resumed run out.
    sudo mount -t nfs -o local_lock=flock "$2" "$3"
    return
  fi
  if ! command -v gcsfuse >/dev/null; then
    local key=/usr/share/keyrings/cloud.google.asc site=https://packages.cloud.google.com/apt
    curl -fsSL $site/doc/apt-key.gpg | sudo tee $key >/dev/null
    echo "deb [signed-by=$key] $site gcsfuse-$(lsb_release -cs) main" | sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
    sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y gcsfuse
  fi
  sudo chown "$(id -u):$(id -g)" "$3"
  # Every worker must see at once what another has written: nothing about files is cached, nor that there is none.
  gcsfuse --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 "$2" "$3"
}

install() {
  local kind='' source='' dir=/mnt/share
  for option in "$@"; do
    case $option in
      --bucket=[a-z0-9]*) kind=bucket source=${option#*=} ;;
      --nfs=[A-Za-z0-9]*) kind=nfs source=${option#*=} ;;
      --mount=/?*) dir=${option#*=} ;;
      *) fail 2 "install: unknown option $option" ;;
    esac
  done
  if [ -n "$kind" ]; then mount_share "$kind" "$source" "$dir"; fi
  cd "$project"
  # The images of TPU VMs have Python 3.10, too old for jax: uv brings its own.
  python3 -m pip install -q --user uv
  if [ ! -x .venv/bin/python ]; then python3 -m uv venv -q --python 3.12 .venv; fi
  python3 -m uv pip install -q --python .venv/bin/python -c constraints.txt -e '.[tpu]'
  echo "$(hostname): installed"
}

status() {
  if [ ! -f "$run/pid" ]; then
    echo none
  elif [ -f "$run/exit" ]; then
    case $(cat "$run/exit") in
      0) echo finished ;;
      "$stopped") echo stopped ;;
      *) echo "failed $(cat "$run/exit")" ;;
    esac
  elif kill -0 "$(cat "$run/pid")" 2>/dev/null; then
    echo running
  else
    echo "failed: killed"
  fi
}

start() {
  if [ "$(status)" = running ]; then fail 1 "a run is under way; stop it first"; fi
  if [ ! -x "$project/.venv/bin/python" ]; then fail 2 "nothing is installed here: install first"; fi
  mkdir -p "$run"
  rm -f "$run/exit" "$run/pid"
  cd "$project"
  # A session of its own, so that it outlives this one. The shell around it notes the exit code; SIGTERM, sent to both
  # by stop and by a VM that goes down, ends only the training.
  # shellcheck disable=SC2016
  setsid bash -c 'trap : TERM; "${@:2}"; echo $? >"$1/exit"' _ "$run" .venv/bin/python -m launch.train "$@" \
    </dev/null >>"$run/log" 2>&1 &
  echo $! >"$run/pid"
  echo "$(hostname): started"
}

stop() {
  if [ "$(status)" != running ]; then
    echo "$(hostname): not running"
    return
  fi
  kill -TERM -- "-$(cat "$run/pid")"
  echo "$(hostname): asked to save and stop"
}

log() {
  if [ ! -f "$run/log" ]; then fail 1 "nothing has run here"; fi
  if [ "${1:-}" = --follow ]; then
    tail -n 50 -f "$run/log"
  else
    tail -n 50 "$run/log"
  fi
}

verb=${1:-}
case $verb in
  install | start | stop | status | log) shift && "$verb" "$@" ;;
  *) fail 2 "unknown verb '$verb'; there are: install, start, stop, status, log" ;;
esac
