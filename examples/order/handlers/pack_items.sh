# Writes the packing slip, with the names that the stock list has for the items.
. handlers/inputs.sh

mkdir -p parcels
slip=parcels/$order.txt
{
    printf 'Parcel for order %s\n\n' "$order"
    items | awk '
        BEGIN {
            FS = ","
            while ((getline < "stock.csv") > 0) name[$1] = $2
            FS = " "
        }
        { printf "%4d x %-10s %s\n", $2, $1, name[$1] }'
} >"$slip.new"
mv "$slip.new" "$slip"

printf '{"parcel":"%s","pieces":%d}\n' "$slip" "$(items | awk '{ sum += $2 } END { print sum }')"
