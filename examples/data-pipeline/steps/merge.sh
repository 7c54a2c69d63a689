# Merges the sorted sums of all parts into one, and packs it.
set -eu
sort -m work/sums-*.csv |
    awk -F, '
        { key = $1 "," $2; rows[key] += $3; pieces[key] += $4; cents[key] += $5 }
        END { for (key in rows) printf "%s,%d,%d,%d\n", key, rows[key], pieces[key], cents[key] }' |
    sort >work/sums.csv
gzip -nc work/sums.csv >report/sums.csv.gz.new
mv report/sums.csv.gz.new report/sums.csv.gz
printf '{"groups":%d,"packed":"report/sums.csv.gz"}\n' "$(wc -l <work/sums.csv)"
