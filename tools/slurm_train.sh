#!/usr/bin/env bash
# Train on a SLURM cluster.
# Usage: [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS="..."] bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of train.py ...]
set -euo pipefail
source "$(dirname "$0")/dist_launch.sh"
help_or_go "$@"
usage='usage: slurm_train.sh PARTITION JOB_NAME CONFIG [options of train.py ...]'
partition=${1:?$usage}
job=${2:?$usage}
config=${3:?$usage}
gpus=${GPUS:-8}
whole GPUS "$gpus" 1
whole GPUS_PER_NODE "${GPUS_PER_NODE:-1}" 1
whole CPUS_PER_TASK "${CPUS_PER_TASK:-5}" 1
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# SRUN_ARGS is a list of words.
# shellcheck disable=SC2086
exec srun --partition "$partition" --job-name "$job" --gres "gpu:$gpus_per_node" --ntasks "$gpus" \
    --ntasks-per-node "$gpus_per_node" --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$tools/train.py" "$config" --launcher slurm "${@:4}"
