#!/usr/bin/env bash
# Train with several processes: one for each GPU, or CPU processes on a host without one.
# Usage: bash tools/dist_train.sh CONFIG NUM_PROCESSES [options of train.py ...]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR (and PORT) on each.
set -euo pipefail
config=${1:?usage: dist_train.sh CONFIG NUM_PROCESSES [options of train.py ...]}
processes=${2:?usage: dist_train.sh CONFIG NUM_PROCESSES [options of train.py ...]}
source "$(dirname "$0")/dist_launch.sh"
launch train.py "$processes" "$config" "${@:3}"
