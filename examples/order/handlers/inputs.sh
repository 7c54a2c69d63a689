# Read by the handlers beside it. A `command` handler gets the step's inputs as one JSON object on standard
# input, prints its result as JSON on standard output, and says with its exit status how it went:
# 0 well, 64 to 78 not worth another attempt, anything else worth one.

set -eu
inputs=$(cat)

# field KEY: the first string or number under that key. It suffices because the template's schemas let no
# quote or backslash through; a handler that needs more of JSON is better written in a language that has it.
field() {
    printf '%s\n' "$inputs" | awk -v key="$1" '
        { text = text $0 " " }
        END {
            if (!match(text, "\"" key "\"[ \t]*:[ \t]*")) {
                print "the inputs have no " key > "/dev/stderr"
                exit 65
            }
            rest = substr(text, RSTART + RLENGTH)
            if (match(rest, /^"[^"]*"/)) print substr(rest, 2, RLENGTH - 2)
            else if (match(rest, /^-?[0-9]+/)) print substr(rest, 1, RLENGTH)
            else exit 65
        }'
}

# items: the items of the order, a line each: sku, quantity, cents a piece.
items() {
    printf '%s\n' "$picks" | tr ';' '\n'
}

# money CENTS: as people write it.
money() {
    awk -v cents="$1" 'BEGIN { printf "%d.%02d", cents / 100, cents % 100 }'
}

order=$(field order_id)
picks=$(field picks)
