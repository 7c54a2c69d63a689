# Deals the rows out to PARTS files, and says how many there are.
set -eu
if [ ! -r data/sales.csv ]; then
    echo "there is no data/sales.csv in $PWD: make it with generate.sh" >&2
    exit 66
fi
mkdir -p work report
tail -n +2 data/sales.csv |
    awk -v parts="$PARTS" '{ print > ("work/part-" (NR % parts + 1) ".csv") }'
printf '{"rows":%d,"parts":%d}\n' "$(tail -n +2 data/sales.csv | wc -l)" "$PARTS"
