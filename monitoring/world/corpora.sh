#!/bin/sh
# Loads the project's own documents into each operator's database. A document that is there already is replaced by itself.
set -eu

for operator in 1 2 3; do
    AUSPEX_ORACLE_DATABASE_URL="postgres://auspex@postgres:5432/auspex_operator_$operator" \
        auspex corpus add "$DOCUMENTS"/*.md
done
