#!/bin/sh
# Makes each operator's two hot keys. `addresses.json` is written last, so a set-up that was cut short is begun again.
set -eu

KEYS="${KEYS:-/var/lib/auspex/keys}"
PASSWORD_FILE="${PASSWORD_FILE:-/run/secrets/keystore_password}"

for operator in operator-1 operator-2 operator-3; do
    directory="$KEYS/$operator"
    [ -e "$directory/addresses.json" ] && continue
    rm -rf "$directory"
    made="$(auspex --json operator init --directory "$directory" --new-password-file "$PASSWORD_FILE")"
    printf '%s\n' "$made" > "$directory/addresses.json"
done
