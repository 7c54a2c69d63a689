# Writes the invoice, and a mail that carries it, into files: no mail leaves this machine.
. handlers/inputs.sh

name=$(field name)
email=$(field email)
currency=$(field currency)
total=$(field total_cents)
charge=$(field charge)

mkdir -p invoices outbox
invoice=invoices/$order.txt
{
    printf 'INVOICE %s\n%s\n\n' "$order" "$name"
    items | while read -r sku quantity cents; do
        printf '%4d x %-12s %10s %12s\n' \
            "$quantity" "$sku" "$(money "$cents")" "$(money "$((quantity * cents))")"
    done
    printf '\n     Total %32s %s\n     Paid with charge %s\n' "$(money "$total")" "$currency" "$charge"
} >"$invoice.new"
mv "$invoice.new" "$invoice"

mail=outbox/$order.eml
{
    printf 'From: shop@example.org\nTo: %s\nSubject: Your order %s\n\n' "$email" "$order"
    cat "$invoice"
} >"$mail.new"
mv "$mail.new" "$mail"

printf '{"invoice":"%s","mail":"%s"}\n' "$invoice" "$mail"
