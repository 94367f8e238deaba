#!/bin/sh
# Starts Prometheus in its container, with what API_TOKEN, API_TOKEN_FILE and OPS_BIND_ADDR of the service mean for who
# scrapes it, and with the alerts' RUNBOOK_URL. Nothing else of prometheus.yml and alerts.yml is changed.
set -eu
umask 077
cd /tmp
case ${OPS_BIND_ADDR:-} in
unix:*) echo "OPS_BIND_ADDR is a unix socket, which Prometheus can't scrape: name IP:PORT" >&2; exit 1 ;;
esac
port=${OPS_BIND_ADDR##*:}
sed "s/\"api:8000\"/\"api:${port:-8000}\"/" /etc/prometheus/prometheus.yml >prometheus.yml
sed "s#https://hookkeeper.example/RUNBOOK.md#${RUNBOOK_URL:-&}#" /etc/prometheus/alerts.yml >alerts.yml
if [ -n "${API_TOKEN:-}${API_TOKEN_FILE:-}" ]; then
    if [ -n "${API_TOKEN:-}" ]; then printf %s "$API_TOKEN" >api_token; else cat "$API_TOKEN_FILE" >api_token; fi
    sed -i 's#^  - job_name: hookkeeper#&\n    authorization: { credentials_file: /tmp/api_token }#' prometheus.yml
fi
exec /bin/prometheus --config.file=/tmp/prometheus.yml --storage.tsdb.path=/prometheus
