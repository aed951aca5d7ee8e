#!/usr/bin/env bash
# Trains one stage on a SLURM cluster of GPU nodes, one process a GPU.
# Before the time limit, or when preempted, the job saves and queues itself again until it is finished.
#
#   launch/slurm.sh train --config configs/paper/decoder.py --config.data.name=/shared/data/NAME \
#     --config.clip=/shared/bundles/clip --workdir /shared/runs/decoder
#   launch/slurm.sh --dry-run ...       print the commands
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

NODES=${NODES:-4}
GPUS=${GPUS:-8}                      # a node
CPUS=${CPUS:-8}                      # a process
TIME=${TIME:-24:00:00}
PARTITION=${PARTITION:-gpu}
NAME=${NAME:-unclip}
WORKDIR=${WORKDIR:-$PWD/runs/$NAME}  # unless --workdir is given; on a shared file system
UNCLIP=${UNCLIP:-$PWD/.venv/bin/unclip}
NOTICE=${NOTICE:-300}                # seconds before the time limit at which the job saves

dry=
if [[ "${1:-}" == --dry-run ]]; then
  dry=1
  shift
fi

read_train_args "$@"
WORKDIR=${workdir:-$WORKDIR}

# SLURM lets the processes find each other; srun ends all of them when one fails.
printf -v train '%q ' srun --kill-on-bad-exit=1 --cpus-per-task="$CPUS" "$UNCLIP" train --workdir "$WORKDIR" \
  "${train_args[@]}"
script="#!/usr/bin/env bash
set -euo pipefail
output=\$($train)
echo \"\$output\"
# Saved and stopped before the last step: queue again.
if [[ \"\$output\" != *': finished'* ]]; then scontrol requeue \"\$SLURM_JOB_ID\"; fi"

submit=(sbatch
  --job-name="$NAME" --partition="$PARTITION" --time="$TIME"
  --nodes="$NODES" --ntasks-per-node="$GPUS" --gpus-per-node="$GPUS" --cpus-per-task="$CPUS"
  --signal="TERM@$NOTICE" --requeue --open-mode=append --output="$WORKDIR/slurm-%j.log")

if [[ -n "$dry" ]]; then
  printf '%q ' mkdir -p "$WORKDIR"
  printf '\n'
  printf '%q ' "${submit[@]}"
  printf '<<EOF\n%s\nEOF\n' "$script"
  exit
fi
mkdir -p "$WORKDIR" # the log's folder
"${submit[@]}" <<<"$script"
