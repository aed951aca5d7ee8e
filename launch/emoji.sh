#!/usr/bin/env bash
# Trains and evaluates every stage of the emoji family on this machine, exports the bundle with its
# model card, and samples the fixed prompts.
# Resumable: run it again after an interruption. Run `unclip data prepare emoji` once before.
#
#   launch/emoji.sh             train, export to $OUT
#   launch/emoji.sh --dry-run   print the commands
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

UNCLIP=${UNCLIP:-.venv/bin/unclip}
RUNS=${RUNS:-runs}
OUT=${OUT:-$RUNS/emoji}
CONFIGS=configs/emoji

# Trains a stage to its end. If the run is stopped, the script ends too; a rerun resumes it.
train() {
  local output
  if [[ -n "$dry" ]]; then
    run "$UNCLIP" train "$@"
    return
  fi
  output=$(run "$UNCLIP" train "$@")
  printf '%s\n' "$output"
  if [[ "$output" != *": finished" ]]; then
    echo "stopped; run $0 again to resume" >&2
    exit 0
  fi
}

# Exports runs if there is no bundle yet, or if they were trained further since.
export_new() {
  local out=$1 newer='' argument
  shift
  for argument in "$@"; do
    if [[ "$argument/checkpoints" -nt "$out/bundle.json" ]]; then newer=1; fi
  done
  if [[ -n "$dry" || -n "$newer" ]]; then
    run "$UNCLIP" export "$@" --out "$out" --overwrite
  fi
}

dry=
if [[ "${1:-}" == --dry-run ]]; then dry=1; fi

train --config "$CONFIGS/clip.py" --workdir "$RUNS/clip"
export_new "$RUNS/clip_bundle" "$RUNS/clip" --dtype float32
for stage in decoder prior_diffusion; do
  train --config "$CONFIGS/$stage.py" --workdir "$RUNS/$stage" \
    --config.clip="$RUNS/clip_bundle"
done
# The autoregressive prior, with the principal components of all training embeddings.
run "$UNCLIP" embed --bundle "$RUNS/clip_bundle" --concepts no_flags --out "$RUNS/embeddings" \
  --fit-pca
train --config "$CONFIGS/prior_ar.py" --workdir "$RUNS/prior_ar" --config.clip="$RUNS/clip_bundle" \
  --config.pca="$RUNS/embeddings/pca.safetensors"
# The second phase of the diffusion prior, with the drawings of the decoder as often as all others.
export_new "$RUNS/prior_first" "$RUNS/clip" "$RUNS/prior_diffusion" --dtype float32
train --config "$CONFIGS/prior_diffusion.py:tune" --workdir "$RUNS/prior_tuned" \
  --config.clip="$RUNS/clip_bundle" --config.init_from="$RUNS/prior_first"
# The second phase of the decoder, on embeddings that the prior samples from the captions.
export_new "$RUNS/prior_bundle" "$RUNS/clip" "$RUNS/prior_tuned" --dtype float32
samples=$RUNS/prior_samples/prior_samples.safetensors
if [[ ! -e "$samples" ]]; then # a rerun uses the same samples
  run "$UNCLIP" embed --bundle "$RUNS/prior_bundle" --concepts everyday --styles 3d,flat \
    --crop pad --prior-draws 1 --out "$RUNS/prior_samples"
fi
export_new "$RUNS/decoder_bundle" "$RUNS/clip" "$RUNS/decoder" --dtype float32
train --config "$CONFIGS/decoder.py:tune" --workdir "$RUNS/decoder_tuned" \
  --config.clip="$RUNS/clip_bundle" --config.init_from="$RUNS/decoder_bundle" \
  --config.train.prior_samples="$samples"
train --config "$CONFIGS/upsampler_256.py" --workdir "$RUNS/upsampler_256"
# A second CLIP, to evaluate the samples with.
train --config "$CONFIGS/clip.py:eval_clip" --workdir "$RUNS/eval_clip"
export_new "$RUNS/eval_clip_bundle" "$RUNS/eval_clip"

stages=("$RUNS/clip" "$RUNS/prior_tuned" "$RUNS/prior_ar" "$RUNS/decoder_tuned"
  "$RUNS/upsampler_256")
export_new "$RUNS/draft" "${stages[@]}"
# Every stage is evaluated on the subset that it was trained on.
evaluate() {
  local suite=$1
  shift
  run "$UNCLIP" eval --model "$RUNS/draft" --suite "$suite" --out "$RUNS/metrics/$suite" \
    --overwrite "$@"
}
evaluate retrieval --concepts no_flags
evaluate priors --concepts no_flags --eval-clip "$RUNS/eval_clip_bundle"
evaluate conditioning --concepts everyday --styles 3d,flat
evaluate samples --concepts everyday --styles 3d,flat --eval-clip "$RUNS/eval_clip_bundle"
metrics=()
for suite in retrieval priors conditioning samples; do
  metrics+=(--metrics "$RUNS/metrics/$suite/$suite.json")
done
export_new "$OUT" "${stages[@]}" --name emoji --notes docs/emoji_notes.md "${metrics[@]}"
run "$UNCLIP" sample --prompts docs/prompts.txt --model "$OUT" --num 1 --out "$RUNS/prompts"
