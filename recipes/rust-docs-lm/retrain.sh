#!/usr/bin/env bash
# Retrains the model that ships, within a time: measures how fast steps are, then takes as many as fit.
#
#     ./retrain.sh LAZUL SECONDS OUT [further flags of `lazul train`]
#
# LAZUL is the program, SECONDS all that the training may take (the clock of a job should have a minute more), OUT
# the folder for what comes of it: the weights (f32) in parts of 15 MB, metrics.jsonl, log.txt. The texts are in DATA:
# the folder that extract.py wrote (build), or that of this script. LAZUL_DEVICE says what to compute on; BATCH,
# CONTEXT, DTYPE, RATE, DROPOUT, DECAY and MOST (steps) are other sizes.
set -euo pipefail
lazul=$(realpath "$1"); seconds=$2; mkdir -p "$3"; out=$(realpath "$3"); shift 3
here=$(cd "$(dirname "$0")" && pwd)
data=${DATA:-$here/build}
[ -e "$data/train.jsonl" ] || data=$here
work=${WORK:-$(mktemp -d)}
began=$SECONDS
exec > >(tee "$out/log.txt") 2>&1

batch=${BATCH:-32} context=${CONTEXT:-1024}
# After more steps than these the texts have been seen too often.
most=${MOST:-2000}
flags=(
    --data "$data/train.jsonl" --valid "$data/valid.jsonl" --mix prose=0.6,std-prose=0.15,api=0.25
    --layers 7 --dim 384 --heads 6 --kv-heads 2 --ffn-dim 1024 --context "$context" --batch-size "$batch"
    --learning-rate "${RATE:-3e-3}" --weight-decay "${DECAY:-0.1}" --dropout "${DROPOUT:-0.3}" --dtype "${DTYPE:-bfloat16}" --seed 1
)

# The last of three reports: kernels are compiled by then.
probe=${PROBE:-60}
timeout -s INT 120 "$lazul" train "${flags[@]}" --iters "$probe" --steps-per-report $((probe / 3)) \
    --steps-per-eval 1000000 --save-every 1000000 --save-path "$work/probe" "$@"
rate=$(grep -o '"iterations_per_second":[0-9.e+-]*' "$work/probe/metrics.jsonl" | tail -1 | cut -d: -f2)
left=$((seconds - (SECONDS - began) - 45))
iters=$(awk -v r="$rate" -v s="$left" -v m="$most" 'BEGIN { n = int(0.9 * r * s); print (n > m ? m : n) }')
echo "measured $rate steps/s: $iters steps of $((batch * context)) tokens in the $left s that are left"
[ "$iters" -ge 2 ]

# Interrupted, it leaves the weights of the step it was at.
timeout -s INT "$((left + 20))" "$lazul" train "${flags[@]}" --iters "$iters" --steps-per-report 50 \
    --steps-per-eval 500 --save-every 1000 --save-path "$work/model" "$@" || true
"$lazul" perplexity --model "$work/model" --data "$here/heldout.txt" --sequence-length 1024
"$lazul" generate --model "$work/model" -p "The borrow checker" -m 100 --temp 0 -q || true
split -b 15000000 "$work/model/model.safetensors" "$out/model.safetensors."
cp "$work/model/metrics.jsonl" "$out/"
echo "done after $((SECONDS - began)) s"
