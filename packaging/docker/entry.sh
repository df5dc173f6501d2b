#!/bin/sh
# Makes the node's directory at its first start, then becomes the verb that was asked for.
# ENTGLDB_NODE_ID, ENTGLDB_PORT, ENTGLDB_CLUSTER_KEY_FILE, ENTGLDB_SEEDS (parted by spaces), ENTGLDB_INIT (more options)
set -eu
if [ "${1:-}" = start ] && [ ! -e "$ENTGLDB_DIR/entgldb.toml" ]; then
    set -- "$@" --
    for seed in ${ENTGLDB_SEEDS:-}; do
        set -- "$@" --seed "$seed"
    done
    [ -z "${ENTGLDB_NODE_ID:-}" ] || set -- "$@" --node-id "$ENTGLDB_NODE_ID"
    [ -z "${ENTGLDB_CLUSTER_KEY_FILE:-}" ] || set -- "$@" --cluster-key-file "$ENTGLDB_CLUSTER_KEY_FILE"
    while [ "$1" != -- ]; do
        shift
    done
    shift
    # more options are words: they are parted on purpose
    # shellcheck disable=SC2086
    entgldb init --port "${ENTGLDB_PORT:-9000}" "$@" ${ENTGLDB_INIT:-}
    set -- start
fi
exec entgldb "$@"
