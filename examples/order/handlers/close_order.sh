# Enters the order into the ledger, once however often it is run.
. handlers/inputs.sh

total=$(field total_cents)
charge=$(field charge)

exec 9>ledger.lock
flock 9
[ -e ledger.csv ] || echo 'order,total_cents,charge' >ledger.csv
grep -q "^$order," ledger.csv || printf '%s,%s,%s\n' "$order" "$total" "$charge" >>ledger.csv

printf '{"ledger":"ledger.csv","orders":%d}\n' "$(($(wc -l <ledger.csv) - 1))"
