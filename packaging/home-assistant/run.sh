#!/usr/bin/with-contenv bashio
# The options become a node's directory at the first start; then the node runs, as a user of its own.
set -eu
if [ ! -e "$ENTGLDB_DIR/entgldb.toml" ]; then
    mkdir -p "$ENTGLDB_DIR"
    words="--node-id $(bashio::config 'node_id') --port 9000"
    if bashio::config.has_value 'cluster_key'; then
        (umask 077 && bashio::config 'cluster_key' | base64 -d > /data/given.key)
        words="$words --cluster-key-file /data/given.key"
    fi
    for seed in $(bashio::config 'seeds'); do
        words="$words --seed $seed"
    done
    # shellcheck disable=SC2086
    entgldb init $words
    rm -f /data/given.key
    chown -R entgldb "$ENTGLDB_DIR"
fi
exec s6-setuidgid entgldb entgldb start
