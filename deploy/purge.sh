#!/bin/sh
# Removes the containers and the volumes: every stored message is gone. Asks first; YES=1 answers for scripts.
set -eu
if [ "${YES:-}" != 1 ]; then
    printf 'This deletes every stored message. Type "purge" to go on: '
    read -r answer || answer=
    [ "$answer" = purge ] || { echo "nothing was removed"; exit 1; }
fi
# Prometheus and Grafana too, if they were ever started.
export COMPOSE_PROFILES=observability
exec "$(dirname "$0")/compose.sh" down --volumes
