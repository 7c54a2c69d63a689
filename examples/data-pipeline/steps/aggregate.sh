# Adds up one part: pieces and cents of each region and product, sorted.
set -eu
part=work/part-$PART.csv
cut -d, -f3,4,5,6 "$part" |
    awk -F, '
        { key = $1 "," $2; rows[key]++; pieces[key] += $3; cents[key] += $3 * $4 }
        END { for (key in rows) printf "%s,%d,%d,%d\n", key, rows[key], pieces[key], cents[key] }' |
    sort >"work/sums-$PART.csv.new"
mv "work/sums-$PART.csv.new" "work/sums-$PART.csv"
printf '{"part":%d,"rows":%d,"groups":%d}\n' "$PART" "$(wc -l <"$part")" "$(wc -l <"work/sums-$PART.csv")"
