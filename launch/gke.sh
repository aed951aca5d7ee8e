#!/usr/bin/env bash
# Trains one stage on TPU slices of a GKE cluster, through xpk.
#
#   launch/gke.sh create                create the cluster and attach the bucket
#   RUN=decoder launch/gke.sh train --config configs/paper/decoder.py --config.data.name=NAME \
#     --config.clip=/mnt/BUCKET/bundles/clip      again to resume
#   launch/gke.sh stop                  stop the workload, which saves first
#   launch/gke.sh delete                delete the cluster
#   launch/gke.sh --dry-run ...         print the commands
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

PROJECT=${PROJECT:-}              # the cloud project; required
ZONE=${ZONE:-us-east5-a}
CLUSTER=${CLUSTER:-unclip}
TYPE=${TYPE:-v5p-128}             # TPU type of a slice
SLICES=${SLICES:-1}
TIER=${TIER:---spot}              # or --on-demand, or --reservation=NAME
BUCKET=${BUCKET:-}                # of the workdirs, mounted on all hosts at /mnt/BUCKET; required
IMAGE=${IMAGE:-python:3.12}       # base image, to which this checkout is added
RUN=${RUN:-unclip}                # name of the workload and its workdir
RESTARTS=${RESTARTS:-50}

dry=
if [[ "${1:-}" == --dry-run ]]; then
  dry=1
  shift
fi

where=(--cluster="$CLUSTER" --project="$PROJECT" --zone="$ZONE")

train() {
  local command
  read_train_args "$@"
  printf -v command '%q ' .venv/bin/unclip train --coordinator auto \
    --workdir "${workdir:-/mnt/$BUCKET/runs/$RUN}" "${train_args[@]}"
  # exec, so that the pod's SIGTERM reaches the process that saves.
  run xpk workload create "${where[@]}" --workload="$RUN" --tpu-type="$TYPE" \
    --num-slices="$SLICES" --base-docker-image="$IMAGE" --script-dir=. --storage="$BUCKET" \
    --max-restarts="$RESTARTS" \
    --command="make install ACCEL=tpu && export UNCLIP_DATA=/mnt/$BUCKET/data && exec $command"
}

if [[ "${1:-}" =~ ^(create|train|stop|delete)$ ]]; then require PROJECT BUCKET; fi

case "${1:-}" in
  create)
    run xpk cluster create "${where[@]}" --tpu-type="$TYPE" --num-slices="$SLICES" "$TIER" \
      --enable-gcsfuse-csi-driver
    run xpk storage attach "$BUCKET" "${where[@]}" --type=gcsfuse --bucket="$BUCKET" \
      --mount-point="/mnt/$BUCKET" --readonly=false --size=1 --auto-mount=false
    ;;
  train)
    shift
    train "$@"
    ;;
  stop) run xpk workload delete "${where[@]}" --workload="$RUN" ;;
  delete) run xpk cluster delete "${where[@]}" ;;
  *)
    echo "usage: $0 [--dry-run] create|train|stop|delete ..." >&2
    exit 2
    ;;
esac
