#!/usr/bin/env bash
# The whole road on simulated nights: `make quickstart` calls it, and each line is a command that
# serves for real recordings too. Every step keeps what an earlier run of it finished.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-quickstart}

run() {
  printf '\n\033[1m$ sleeplm %s\033[0m\n' "$*"
  sleeplm "$@"
}

run simulate --out "$out/recordings" --nights 16 --hours 3 --seed 1 --people healthy,apnoea-moderate --no-artefacts
run simulate --out "$out/unseen" --nights 1 --hours 3 --seed 2 --people healthy --no-artefacts
run prepare --recordings "$out/recordings" --out "$out/corpus" --cohort simulated
run tokenizer --corpus "$out/corpus" --vocab-size 2048
run train "$here/quickstart.py" --out "$out/runs" --data.corpus "$out/corpus"
run describe "$out/runs/quickstart" "$out/unseen/sim-2-0000.edf" --out "$out/report.html"
run evaluate "$out/runs/quickstart" --corpus "$out/corpus" --split test

printf '\nOpen %s/report.html (or %s/report.png). Figures: %s/runs/quickstart/evaluation.json.\n' \
  "$out" "$out" "$out"
echo "All nights above are simulated; the README shows the same road for your own EDF files."
