#!/usr/bin/env bash
# Everything that a change must pass, cheapest first; stops at the first failure.
# The tests are run by the command that README.md gives, so that the README cannot be wrong.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
    printf '\n==> %s\n' "$*"
}

# The one line of the README that is a `cargo test` command.
test_command=$(grep '^cargo test' README.md || true)
if [ -z "$test_command" ] || [ "$(wc -l <<<"$test_command")" -ne 1 ]; then
    echo "README.md must have exactly one line that begins with 'cargo test'" >&2
    exit 1
fi

step "text and links"
scripts/check-text.sh

step "lock file"
cargo tree --workspace --locked >/dev/null

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

if cargo deny --version >/dev/null 2>&1; then
    step "licences and sources of dependencies"
    cargo deny check licenses bans sources
fi

# The README's command below tests the best instruction set that this processor has.
for isa in scalar avx2; do
    step "CPU kernels with LAZUL_ISA=$isa"
    LAZUL_ISA=$isa cargo test -p lazul-cpu --lib
done

step "$test_command"
bash -c "$test_command"

# Memory that follows operations to a device, and comes back: the device is none, its memory apart from the host's.
step "programs on a device"
LAZUL_DEVICE=mock cargo test --workspace --test graph --test transforms --test golden_ops \
    --test golden_index --test golden_functions --test golden_nn

# The wheel in an environment of its own, with numpy beside it and nothing else of ours.
step "Python package"
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv/build" && python3 -m venv "$venv/run"
"$venv/build/bin/pip" install --quiet 'maturin>=1.7,<2'
"$venv/build/bin/maturin" build --quiet --profile dev --out "$venv/wheels" --interpreter "$venv/run/bin/python"
"$venv/run/bin/pip" install --quiet numpy pytest "$venv"/wheels/lazul-*.whl
"$venv/run/bin/python" -m pytest -q -p no:cacheprovider python/tests --ignore python/tests/peer
