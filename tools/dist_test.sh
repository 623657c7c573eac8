#!/usr/bin/env bash
# Score a checkpoint with several processes; the scores equal those of one process.
# Usage: bash tools/dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [options of test.py ...]
set -euo pipefail
source "$(dirname "$0")/dist_launch.sh"
help_or_go "$@"
config=${1:?usage: dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [options of test.py ...]}
checkpoint=${2:?usage: dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [options of test.py ...]}
processes=${3:?usage: dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [options of test.py ...]}
launch test.py "$processes" "$config" "$checkpoint" "${@:4}"
