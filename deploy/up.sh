#!/bin/sh
# Builds and starts Hookkeeper. Without a webhook secret it makes one first, in deploy/.env, and says so.
set -eu
cd "$(dirname "$0")"

# Compose prefers a variable of the shell to .env even if it is empty; here empty means not set.
[ -n "${WEBHOOK_SECRET:-}" ] || unset WEBHOOK_SECRET
[ -n "${WEBHOOK_SECRET_FILE:-}" ] || unset WEBHOOK_SECRET_FILE
# Set in the shell, the one wins over the other in .env: both at once are refused as a contradiction.
[ -z "${WEBHOOK_SECRET:-}" ] || export WEBHOOK_SECRET_FILE="${WEBHOOK_SECRET_FILE:-}"
[ -z "${WEBHOOK_SECRET_FILE:-}" ] || export WEBHOOK_SECRET="${WEBHOOK_SECRET:-}"

if [ -z "${WEBHOOK_SECRET:-}${WEBHOOK_SECRET_FILE:-}" ] && ! grep -qsE '^WEBHOOK_SECRET(_FILE)?=.' .env; then
    secret=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077 && touch .env && chmod 600 .env)
    # A file that does not end its last line would swallow ours.
    [ ! -s .env ] || echo >> .env
    echo "WEBHOOK_SECRET=$secret" >> .env
    echo "made a webhook secret: WEBHOOK_SECRET in $(pwd)/.env (give it to the senders, keep it out of git)"
fi

# The engine would make the folder too, but as root's.
mkdir -p secrets
HOOKKEEPER_COMMIT=${HOOKKEEPER_COMMIT:-$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)}
export HOOKKEEPER_COMMIT
exec ./compose.sh up --detach --build "$@"
