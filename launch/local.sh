#!/usr/bin/env bash
# Runs `unclip` in N processes on this machine as one job, as on several hosts.
# If one process dies, all are ended; SIGTERM and Ctrl-C are forwarded, so that training saves.
#
#   launch/local.sh 2 train --config configs/emoji/decoder.py:smoke --workdir runs/two
#   launch/local.sh --dry-run 2 train ...      print the commands
set -euo pipefail

UNCLIP=${UNCLIP:-.venv/bin/unclip}
PORT=${PORT:-$((20000 + RANDOM % 20000))} # on which process 0 listens

dry=
if [[ "${1:-}" == --dry-run ]]; then
  dry=1
  shift
fi
if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ || $# -lt 2 ]]; then
  echo "usage: $0 [--dry-run] N train|sample|embed|eval ..." >&2
  exit 2
fi
count=$1
shift

# On a CPU a process is one device, unless JAX_NUM_CPU_DEVICES says otherwise.
export JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-1}

pids=()
# Called by the trap.
# shellcheck disable=SC2329
forward_sigterm() {
  kill -TERM "${pids[@]}" 2>/dev/null || true
}
trap forward_sigterm TERM INT

for ((i = 0; i < count; i++)); do
  command=("$UNCLIP" "$@" --coordinator "127.0.0.1:$PORT" --num-processes "$count" --process-id "$i")
  if [[ -n "$dry" ]]; then
    printf '%q ' "${command[@]}"
    printf '\n'
    continue
  fi
  "${command[@]}" &
  pids+=($!)
done

# Polls five times a second: `wait -n` alone does not tell which process has ended.
running=("${!pids[@]}") failed=0 who=''
while ((${#running[@]} && !failed)); do
  sleep 0.2 || true
  left=()
  for i in "${running[@]}"; do
    if kill -0 "${pids[i]}" 2>/dev/null; then
      left+=("$i")
      continue
    fi
    code=0
    wait "${pids[i]}" || code=$?
    # If several end at once, the one that was killed (128 + 9) is the cause.
    if ((code && (!failed || code == 137))); then failed=$code who=$i; fi
  done
  running=("${left[@]}")
done

if ((failed)); then
  for i in "${running[@]}"; do # they cannot save without the process that died
    kill -KILL "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
  why=
  if ((failed == 134)); then why=' (it lost contact with a process that hangs)'; fi
  echo "launch/local.sh: process $who of $count ended with exit code $failed$why, so the job was" \
    "ended; run the same command again to resume from its last checkpoint" >&2
fi
exit "$failed"
