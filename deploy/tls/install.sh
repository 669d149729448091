#!/bin/sh
# Puts a new certificate in place and lets nginx take it over; certbot calls it as its deploy hook.
#   RENEWED_LINEAGE   the folder with fullchain.pem and privkey.pem (certbot sets it)
#   AIDERM_TLS_DIR    where nginx looks (default: the folder of this script)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${AIDERM_TLS_DIR:-$here}
source=${RENEWED_LINEAGE:?must name the folder with fullchain.pem and privkey.pem}
for name in privkey.pem fullchain.pem; do
    install -o 101 -m 400 "$source/$name" "$target/.$name.new"
    mv "$target/.$name.new" "$target/$name"
done
cd "$here/../.."
docker compose exec -T frontend nginx -s reload
