# Sourced by dist_train.sh and dist_test.sh.
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# launch SCRIPT NUM_PROCESSES ARGUMENTS...: run a tool under torchrun, with the cores shared out among the processes.
launch() {
    local script=$1 processes=$2 python=${PYTHON:-python} cores
    cores=$(nproc)
    # On one machine a free port is taken, so that two runs do not collide.
    local meet=(--standalone)
    if [ "${NNODES:-1}" -gt 1 ]; then
        meet=(--nnodes "$NNODES" --node-rank "${NODE_RANK:?}" --master-addr "${MASTER_ADDR:?}" --master-port "${PORT:-29500}")
    fi
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / processes > 0 ? cores / processes : 1))}
    exec "$python" -m torch.distributed.run "${meet[@]}" --nproc-per-node "$processes" \
        "$tools/$script" "${@:3}" --launcher pytorch
}
