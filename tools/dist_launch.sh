# Sourced by dist_train.sh, dist_test.sh and slurm_train.sh.
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# help_or_go ARGUMENT: print the comment at the head of the calling script, if that is asked for.
help_or_go() {
    case ${1:-} in
        -h | --help) sed -n '2,/^set /{/^#/s/^# //p}' "$0"; exit 0 ;;
    esac
}

# whole NAME VALUE LEAST: refuse a value that is not a plain whole number; the shell would run code in it as arithmetic.
whole() {
    if [[ ! $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] || [ "$2" -lt "$3" ]; then
        echo "error: $1=$2: give a whole number from $3" >&2
        exit 2
    fi
}

# launch SCRIPT NUM_PROCESSES ARGUMENTS...: run a tool in several processes, with the cores shared out among them.
launch() {
    local script=$1 processes=$2 python=${PYTHON:-python} cores
    whole NUM_PROCESSES "$processes" 1
    whole NNODES "${NNODES:-1}" 1
    whole NODE_RANK "${NODE_RANK:-0}" 0
    whole PORT "${PORT:-29500}" 1
    cores=$(nproc)
    # On one machine a free port is taken, so that two runs do not collide.
    local meet=(--standalone)
    if [ "${NNODES:-1}" -gt 1 ]; then
        meet=(--nnodes "$NNODES" --node-rank "${NODE_RANK:?}" --master-addr "${MASTER_ADDR:?}" --master-port "${PORT:-29500}")
    fi
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / processes > 0 ? cores / processes : 1))}
    exec "$python" "$tools/dist_run.py" "${meet[@]}" --nproc-per-node "$processes" \
        "$tools/$script" "${@:3}" --launcher pytorch
}
