# Writes the report: every region with its best product, and the whole. Its result is the whole.
set -eu
awk -F, '
    { rows += $3; pieces += $4; cents += $5; of_region[$1] += $5 }
    $5 > best[$1] { best[$1] = $5; product[$1] = $2 }
    END {
        for (name in of_region)
            printf "%-10s %14.2f  best: %s %.2f\n", name, of_region[name] / 100,
                product[name], best[name] / 100 | "sort"
        close("sort")
        printf "%-10s %14.2f  %d pieces in %d sales\n", "all", cents / 100, pieces, rows
        printf "{\"rows\":%d,\"pieces\":%d,\"cents\":%d,\"report\":\"report/sales.txt\"}\n",
            rows, pieces, cents > "work/result.json"
    }' work/sums.csv >report/sales.txt.new
mv report/sales.txt.new report/sales.txt
cat work/result.json
