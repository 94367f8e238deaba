#!/bin/sh
# Compose on this project, whichever Compose is here: the plugin, or the older docker-compose.
set -eu
cd "$(dirname "$0")"
# Without a name, every project whose compose file lies in a folder "deploy" would share volumes.
export COMPOSE_PROJECT_NAME="${COMPOSE_PROJECT_NAME:-hookkeeper}"
if docker compose version >/dev/null 2>&1; then
    exec docker compose "$@"
elif command -v docker-compose >/dev/null 2>&1; then
    exec docker-compose "$@"
fi
echo "needs Docker with Compose: neither 'docker compose' nor 'docker-compose' works here" >&2
exit 1
