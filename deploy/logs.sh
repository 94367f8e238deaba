#!/bin/sh
# The service's log as it wrote it: JSON lines on standard output. Takes the options of `docker logs`.
set -eu
api=$("$(dirname "$0")/compose.sh" ps -a -q api | head -n 1)
[ -n "$api" ] || { echo "logs: there is no hookkeeper container; make up creates one" >&2; exit 1; }
exec docker logs "$@" "$api"
