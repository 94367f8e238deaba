#!/bin/sh
# Builds and starts Hookkeeper, and waits until it is ready. Passwords that are missing are made first, in deploy/.env.
#
# Settings are what Compose itself makes of the shell and of deploy/.env.
set -eu
env_file=$(cd "$(dirname "$0")" && pwd)/.env

# Longer than the health check takes to give up. A large database that is brought up to date may take longer still.
WAIT_SECS_MAX=120

fail() { echo "up: $*" >&2; exit 1; }

# Compose prefers a variable of the shell to .env even if it is empty; here empty means not set.
for name in $(sed -n 's/.*\${\([A-Z_]*\):-.*/\1/p' "$(dirname "$0")/docker-compose.yml" | sort -u); do
    eval "[ -n \"\${$name:-}\" ] || unset $name"
done

# Of this machine's files the container sees those in deploy/secrets. Any other is what `send` and `make run` use.
native_file=$(cd "$(dirname "$0")/.." && pwd)/data/webhook_secret
case ${WEBHOOK_SECRET_FILE:-} in
'' | /run/secrets/*) ;;
*)
    echo "up: WEBHOOK_SECRET_FILE=$WEBHOOK_SECRET_FILE is not in the container: the secret is that of $env_file"
    native_file=$(realpath "$WEBHOOK_SECRET_FILE" 2>/dev/null || echo "$native_file")
    unset WEBHOOK_SECRET_FILE
    ;;
esac
# Set in the shell, the one wins over the other in .env: both at once are refused as a contradiction.
[ -z "${WEBHOOK_SECRET:-}" ] || export WEBHOOK_SECRET_FILE="${WEBHOOK_SECRET_FILE:-}"
[ -z "${WEBHOOK_SECRET_FILE:-}" ] || export WEBHOOK_SECRET="${WEBHOOK_SECRET:-}"
cd "$(dirname "$0")"

# Compose's own message about an address that it can't read names neither the setting nor what is allowed.
publish_addr=$(./compose.sh -f - config <<'EOF' | sed -n "s/^ *publish_addr: *//p" | tr -d "\"'"
services:
  api: { image: hookkeeper, labels: { publish_addr: "${PUBLISH_ADDR:-127.0.0.1:8000}" } }
EOF
)
# There is always one; if there is none, Compose has said why.
[ -n "$publish_addr" ] || fail "docker compose can't read $env_file or the shell's settings"
case $publish_addr in
*.*.*.*:* | \[*\]:*) ;;
*) fail "PUBLISH_ADDR is \"$publish_addr\", allowed is IP:PORT, as in 127.0.0.1:8000 or 0.0.0.0:8000" ;;
esac

config=$(./compose.sh config)
# setting NAME: what Compose read; nothing if that is empty. Both Composes print one a line, quoted if need be.
setting() { echo "$config" | sed -n "s/^ *$1: *//p" | sed -n "1s/^[\"']\(.*\)[\"']\$/\1/; 1p"; }

# Whoever runs this as root need not be who works here.
own() { [ "$(id -u)" != 0 ] || chown "$(ls -nd .. | awk '{ print $3 ":" $4 }')" "$@"; }
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
# add NAME VALUE: adds the line to .env unless it has one.
add() {
    if grep -qsE "^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*([=:]|\$)" .env; then
        fail "$env_file has a line for $1, but Compose reads no value from it: write $1=... there, or remove the line"
    fi
    (umask 077 && touch .env && chmod 600 .env)
    # A file that does not end its last line would swallow ours.
    [ ! -s .env ] || [ -z "$(tail -c 1 .env)" ] || echo >>.env
    echo "$1=$2" >>.env
    own .env
}

if [ -z "$(setting WEBHOOK_SECRET)$(setting WEBHOOK_SECRET_FILE)" ]; then
    # The secret that this checkout has natively, if Compose would read it as it is.
    if grep -qsxE '[A-Za-z0-9._+/=-]+' "$native_file" && [ "$(wc -l <"$native_file")" -le 1 ]; then
        add WEBHOOK_SECRET "$(cat "$native_file")"
        echo "copied the webhook secret from $native_file: WEBHOOK_SECRET in $env_file"
    else
        secret=$(random)
        add WEBHOOK_SECRET "$secret"
        echo "created a webhook secret: WEBHOOK_SECRET in $env_file (give it to the senders; keep it out of git)"
        if [ ! -e "$native_file" ]; then
            (umask 077 && mkdir -p "${native_file%/*}" && printf %s "$secret" >"$native_file")
            own "${native_file%/*}" "$native_file"
        fi
    fi
fi
# Asked for only if Grafana is to be started; the older Compose shows it whether or not.
case ",${COMPOSE_PROFILES:-$(sed -n 's/^COMPOSE_PROFILES=//p' .env 2>/dev/null)}," in
*,observability,* | *,\*,*)
    if [ -z "$(setting GF_SECURITY_ADMIN_PASSWORD)" ]; then
        add GRAFANA_PASSWORD "$(random)"
        echo "created a password for Grafana's user admin: GRAFANA_PASSWORD in $env_file"
    fi
    ;;
esac

case $publish_addr in
127.* | \[::1\]:*) ;;
*)
    if [ -z "$(setting API_TOKEN)$(setting API_TOKEN_FILE)$(setting OPS_BIND_ADDR)" ]; then
        fail "PUBLISH_ADDR is \"$publish_addr\": whoever reaches it could read all messages." \
            "Set API_TOKEN or OPS_BIND_ADDR in $env_file first"
    fi
    ;;
esac

# The engine would make the folder too, but as root's.
mkdir -p secrets
HOOKKEEPER_COMMIT=${HOOKKEEPER_COMMIT:-$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)}
export HOOKKEEPER_COMMIT
./compose.sh up --detach --build "$@"

api=$(./compose.sh ps -a -q api | head -n 1)
state() { docker inspect --format "$1" "$api"; }
n_restarts=$(state '{{.RestartCount}}')
waited=0
while :; do
    [ "$(state '{{.State.Status}} {{.RestartCount}}')" = "running $n_restarts" ] || { why="it ended"; break; }
    health=$(state '{{.State.Health.Status}}')
    [ "$health" != healthy ] || { echo "hookkeeper is ready on $publish_addr"; exit 0; }
    [ "$health" = starting ] || { why=$(state '{{range .State.Health.Log}}{{.Output}}{{end}}' | tail -n 1); break; }
    [ "$waited" -lt "$WAIT_SECS_MAX" ] || { why="it is still starting after $WAIT_SECS_MAX s; it goes on, see make logs"; break; }
    sleep 1
    waited=$((waited + 1))
done
./logs.sh --tail 5 >&2
# Exit code 2 means invalid configuration: another start, which the engine would try forever, would not help. It can
# be asked for while nothing runs.
for _ in 1 2 3 4 5; do
    [ "$why" = "it ended" ] && [ "$(state '{{.State.Status}}')" = running ] || break
    sleep 1
done
case $(state '{{.State.ExitCode}}') in
2) ./compose.sh stop api >/dev/null 2>&1; why="$why with exit code 2, and is stopped now" ;;
esac
fail "hookkeeper is not ready: $why"
