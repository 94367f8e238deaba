#!/bin/sh
# Checks what lies in deploy/ without starting anything. With a file that holds an answer of /metrics, also that
# dashboard and alerts ask only for metrics that are in it: deploy/check.sh metrics.txt
set -eu
metrics=$(realpath "${1:-/dev/null}")
cd "$(dirname "$0")"
failed=0
fail() { echo "$*" >&2; failed=1; }

for script in *.sh prometheus/*.sh; do sh -n "$script" || failed=1; done

if command -v promtool >/dev/null; then
    said=$(cd prometheus && { promtool check config prometheus.yml && promtool check rules alerts.yml &&
        promtool test rules alerts_test.yml; } 2>&1) || fail "$said"
else
    echo "skipped: no promtool"
fi

for alert in $(sed -n 's/.*- alert: //p' prometheus/alerts.yml); do
    anchor=$(echo "$alert" | tr '[:upper:]' '[:lower:]')
    grep -q "^## $alert\$" RUNBOOK.md || fail "RUNBOOK.md has no heading $alert"
    grep -q "runbook_url: https://.*/RUNBOOK.md#$anchor\$" prometheus/alerts.yml || fail "$alert does not point to its heading"
    grep -q "alertname: $alert\$" prometheus/alerts_test.yml || fail "$alert has no test"
done

if command -v systemd-analyze >/dev/null; then
    # The program may not be installed here; what is checked is the unit.
    unit=$(mktemp -d)
    sed 's#^ExecStart=/[^ ]*#ExecStart=/bin/true#' hookkeeper.service >"$unit/hookkeeper.service"
    said=$(systemd-analyze verify "$unit/hookkeeper.service" 2>&1) && [ -z "$said" ] || fail "hookkeeper.service: $said"
    rm -r "$unit"
else
    echo "skipped: no systemd-analyze"
fi

if ! command -v jq >/dev/null; then
    echo "skipped: no jq, so metric names are not checked"
    exit $failed
fi
asked=$({ jq -r '.panels[].targets[].expr' grafana/dashboards/*.json
          sed 's/#.*//; s/^ *\(summary\|runbook_url\):.*//' prometheus/alerts.yml; } |
    grep -oE '[a-z_]+[{[]|(hookkeeper|http|webhook|request|process)_[a-z_]+' | tr -d '{[' | sed 's/_\(bucket\|sum\|count\)$//' | sort -u)
[ -n "$asked" ] || fail "no metric names were found in dashboard and alerts"
if [ -s "$metrics" ]; then
    for name in $asked; do
        # `up` is Prometheus's own; the others are there once there is a backup, or a certificate.
        case $name in up | hookkeeper_last_backup_timestamp_seconds | hookkeeper_tls_certificate_expiry_timestamp_seconds) continue ;; esac
        grep -q "^# TYPE $name " "$metrics" || fail "$name is asked for but not in $1"
    done
fi
exit $failed
