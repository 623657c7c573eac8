#!/usr/bin/env bash
# Train with several processes: one for each GPU, or CPU processes on a host without one.
# Usage: bash tools/dist_train.sh CONFIG NUM_PROCESSES [options of train.py ...]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR (and PORT) on each.
set -euo pipefail
source "$(dirname "$0")/dist_launch.sh"
help_or_go "$@"
config=${1:?usage: dist_train.sh CONFIG NUM_PROCESSES [options of train.py ...]}
processes=${2:?usage: dist_train.sh CONFIG NUM_PROCESSES [options of train.py ...]}
launch train.py "$processes" "$config" "${@:3}"
