# Takes the order's items out of stock.csv. A step may be run again although it ended well, so what was
# reserved is remembered; a crash between the two renames reserves twice, which sells too little, never too much.
. handlers/inputs.sh

mkdir -p reservations
exec 9>stock.lock
flock 9

reservation=reservations/$order.csv
if [ ! -e "$reservation" ]; then
    items >"$reservation.new"
    awk -F, -v OFS=, -v wanted="$reservation.new" '
        BEGIN {
            while ((getline line < wanted) > 0) {
                split(line, item, " ")
                quantity[item[1]] = item[2]
            }
        }
        $1 in quantity {
            if ($3 < quantity[$1]) {
                print "only " $3 " of " $1 " are left, " quantity[$1] " are wanted" > "/dev/stderr"
                failed = 1
            }
            $3 -= quantity[$1]
            delete quantity[$1]
        }
        { print }
        END {
            for (sku in quantity) {
                print "nobody knows " sku > "/dev/stderr"
                failed = 1
            }
            exit failed ? 65 : 0
        }' stock.csv >stock.csv.new
    mv stock.csv.new stock.csv
    mv "$reservation.new" "$reservation"
fi

printf '{"reservation":"%s","lines":%d}\n' "$reservation" "$(wc -l <"$reservation")"
