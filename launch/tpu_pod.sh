#!/usr/bin/env bash
# Trains one stage on a TPU pod slice: requests it, and installs and runs on all of its hosts.
#
#   launch/tpu_pod.sh create            request the slice and wait until it is ready
#   launch/tpu_pod.sh install           copy this checkout, install it and what it lacks, mount the bucket
#   RUN=decoder launch/tpu_pod.sh train --config configs/paper/decoder.py --config.data.name=NAME \
#     --config.clip=/mnt/BUCKET/bundles/clip      again to resume
#   launch/tpu_pod.sh stop              save on all hosts and stop
#   launch/tpu_pod.sh delete            release the slice
#   launch/tpu_pod.sh --dry-run ...     print the commands
#
# A spot slice that was taken away does not come back: delete, create and install again, then train.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

PROJECT=${PROJECT:-}                 # the cloud project; required
ZONE=${ZONE:-us-east5-a}
NAME=${NAME:-unclip}
TYPE=${TYPE:-v5p-128}                # accelerator type; v4 and v5p count two cores a chip
VERSION=${VERSION:-v2-alpha-tpuv5}   # runtime for this type
TIER=${TIER:---spot}                 # or --reserved, or empty for on-demand
BUCKET=${BUCKET:-}                   # of the workdirs, mounted on all hosts at /mnt/BUCKET; required
RUN=${RUN:-$NAME}                    # workdir in the bucket, one for each stage: /mnt/BUCKET/runs/RUN
GCSFUSE=${GCSFUSE:-2.5.2}            # version to install on hosts that have none

dry=
if [[ "${1:-}" == --dry-run ]]; then
  dry=1
  shift
fi

where=(--project="$PROJECT" --zone="$ZONE")

# Runs a command on every host, or on those that $2 names.
on_hosts() {
  run gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker="${2:-all}" --command="$1"
}

create() {
  run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" "${where[@]}" \
    --accelerator-type="$TYPE" --runtime-version="$VERSION" ${TIER:+"$TIER"}
  local state='' describe=(gcloud compute tpus queued-resources describe "$NAME" "${where[@]}"
    --format='value(state.state)')
  if [[ -n "$dry" ]]; then
    run "${describe[@]}"
    return
  fi
  until [[ "$state" == ACTIVE ]]; do
    state=$("${describe[@]}")
    echo "$NAME: $state"
    if [[ "$state" == FAILED || "$state" == SUSPENDED ]]; then exit 1; fi
    sleep 30
  done
}

# Prints what a host runs before make. The runtime is Ubuntu 22.04, whose Python is 3.10.
prepare() {
  local apt='sudo DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=600' is_new
  local url="https://github.com/GoogleCloudPlatform/gcsfuse/releases/download"
  is_new="-c 'import sys, ensurepip; assert sys.version_info >= (3, 11)' 2>/dev/null"
  echo "{ python3 $is_new || python3.11 $is_new || { $apt update && $apt install python3.11 \
python3.11-venv; }; } && { command -v gcsfuse || { curl -fsSLo /tmp/gcsfuse.deb \
$url/v$GCSFUSE/gcsfuse_${GCSFUSE}_amd64.deb && $apt install /tmp/gcsfuse.deb; }; }"
}

install() {
  local archive=/tmp/unclip_jax.tar.gz
  run git archive --format=tar.gz --output="$archive" HEAD
  run gcloud compute tpus tpu-vm scp "$archive" "$NAME:$archive" "${where[@]}" --worker=all
  on_hosts "$(prepare) && mkdir -p unclip_jax && tar -xzf $archive -C unclip_jax && make -C unclip_jax install \
ACCEL=tpu && sudo mkdir -p -m 777 /mnt/$BUCKET && { mountpoint -q /mnt/$BUCKET || gcsfuse \
--implicit-dirs $BUCKET /mnt/$BUCKET; }"
}

train() {
  local command
  read_train_args "$@"
  printf -v command '%q ' .venv/bin/unclip train --coordinator auto \
    --workdir "${workdir:-/mnt/$BUCKET/runs/$RUN}" "${train_args[@]}"
  on_hosts "cd unclip_jax && UNCLIP_DATA=/mnt/$BUCKET/data $command"
}

if [[ "${1:-}" =~ ^(create|install|train|stop|delete)$ ]]; then require PROJECT BUCKET; fi

case "${1:-}" in
  create | install) "$1" ;;
  train)
    shift
    train "$@"
    ;;
  stop) on_hosts "pkill -TERM -f '[u]nclip train'" 0 ;; # the first host notifies the others
  delete)
    run gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force --quiet
    ;;
  *)
    echo "usage: $0 [--dry-run] create|install|train|stop|delete ..." >&2
    exit 2
    ;;
esac
