# Makes data/sales.csv, 60,000 rows that are the same wherever it is run: the numbers come from a generator
# of its own, since every awk has another one. `sh generate.sh ROWS DIRECTORY` makes more, elsewhere.
set -eu
rows=${1:-60000}
directory=${2:-$(dirname "$0")/data}

mkdir -p "$directory"
awk -v rows="$rows" '
    # Park and Miller 1988: no product exceeds 2^53, so floating point holds it exactly.
    function random(below) {
        seed = (seed * 16807) % 2147483647
        return seed % below
    }
    BEGIN {
        seed = 20250102
        regions = split("north east south west overseas", region, " ")
        products = split("mug tee pen bag cap book", product, " ")
        print "id,day,region,product,quantity,unit_cents"
        for (id = 1; id <= rows; id++)
            printf "%d,2024-%02d-%02d,%s,%s,%d,%d\n", id, 1 + random(12), 1 + random(28),
                region[1 + random(regions)], product[1 + random(products)],
                1 + random(9), 100 + random(4900)
    }' >"$directory/sales.csv.new"
mv "$directory/sales.csv.new" "$directory/sales.csv"
echo "$directory/sales.csv: $rows rows"
