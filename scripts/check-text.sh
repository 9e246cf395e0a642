#!/usr/bin/env bash
# Cheap checks of the repository's text:
#   - no invisible or direction-changing characters, and no letters that only look like Latin ones;
#   - no placeholder left behind, and no path that exists on one machine only;
#   - every relative link of a Markdown page, and every file of ours that a page names, is there.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

# What people write; data made by scripts may hold any character.
files() {
    git -c safe.directory='*' ls-files --cached --others --exclude-standard 2>/dev/null ||
        find . -path ./target -prune -o -type f -printf '%P\n'
}
mapfile -t text < <(
    files | sort -u | grep -E '(\.(rs|md|toml|py|sh|yml)|^LICENSE[^/]*|\.ci/run)$' |
        while IFS= read -r file; do [ ! -f "$file" ] || printf '%s\n' "$file"; done
)
mapfile -t pages < <(printf '%s\n' "${text[@]}" | grep -E '\.md$')

failed=0
refuse() { # why, pattern, files
    local why=$1 pattern=$2
    shift 2
    local found
    if found=$(grep -nHP -e "$pattern" -- "$@"); then
        printf '%s:\n%s\n' "$why" "$found" >&2
        failed=1
    fi
}

refuse "invisible or direction-changing characters" \
    '[\x{00AD}\x{061C}\x{180E}\x{200B}\x{200E}\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2064}\x{2066}-\x{2069}\x{FEFF}]' \
    "${text[@]}"
lookalike='[\x{0400}-\x{052F}ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο]'
refuse "Cyrillic or Greek letters inside Latin words" \
    "[A-Za-z]$lookalike|$lookalike[A-Za-z]" "${text[@]}"
refuse "placeholders" '\b(TO[D]O|FIX[M]E|XX[X])\b|\b[A-Z]+-HER[E]\b' "${text[@]}"
refuse "paths of one machine" '(^|[\s"'"'"'`(=])/(root|work)/\w' "${text[@]}"
refuse "lines that end in white space" '[ \t]+$' "${text[@]}"

for page in "${pages[@]}"; do
    folder=$(dirname "$page")
    # [text](target), without what lies outside the repository.
    while IFS= read -r target; do
        target=${target%%#*}
        if [ -n "$target" ] && [ ! -e "$folder/$target" ]; then
            echo "$page: broken link to $target" >&2
            failed=1
        fi
    done < <(grep -oP '\]\(\K[^)\s]+' "$page" | grep -vE '^(https?|mailto):' || true)
    # `crates/core/src/node.rs`, and the like.
    while IFS= read -r path; do
        if [ ! -e "$path" ]; then
            echo "$page: names $path, which is not there" >&2
            failed=1
        fi
    done < <(grep -oP '`\K(crates|docs|scripts|benches|examples|recipes|assets)/[\w./-]+(?=`)' "$page" || true)
done

# The book has no page without an entry.
for page in docs/src/*.md; do
    name=$(basename "$page")
    if [ "$name" != SUMMARY.md ] && ! grep -qF "($name)" docs/src/SUMMARY.md; then
        echo "$page: not in docs/src/SUMMARY.md" >&2
        failed=1
    fi
done

[ "$failed" -eq 0 ] && echo "${#text[@]} files, ${#pages[@]} pages: ok"
exit "$failed"
