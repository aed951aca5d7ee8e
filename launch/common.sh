# Functions that the launch scripts share; sourced by them.
# shellcheck shell=bash disable=SC2034

# Ends the script unless the named variables are set.
require() {
  local name
  for name in "$@"; do
    if [[ -z "${!name:-}" ]]; then
      echo "$0: set $name, e.g. $name=... $0 ...; the variables are explained at the top of the script" >&2
      exit 2
    fi
  done
}

# Prints a command, and runs it unless this is a dry run.
run() {
  printf '%q ' "$@"
  printf '\n'
  if [[ -z "${dry:-}" ]]; then "$@"; fi
}

# Splits arguments of `unclip train` into $workdir (empty if not given) and ${train_args[@]}.
# A leading word `train` is optional.
read_train_args() {
  workdir='' train_args=()
  if [[ "${1:-}" == train ]]; then shift; fi
  while (($#)); do
    case "$1" in
      --workdir)
        if (($# < 2)); then
          echo "$0: --workdir needs a folder" >&2
          exit 2
        fi
        workdir=$2
        shift
        ;;
      --workdir=*) workdir=${1#--workdir=} ;;
      *) train_args+=("$1") ;;
    esac
    shift
  done
}
