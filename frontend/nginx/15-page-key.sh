#!/bin/sh
# Runs before nginx starts (the image's entry point calls it). Takes the page's API key from a secret, so that nginx can add it to
# the page's requests. Without a secret, or with an empty one, nginx adds nothing.
#   AIDERM_PAGE_KEY_FILE        the secret; default: /run/secrets/page_key
#   NGINX_ENVSUBST_OUTPUT_DIR   where the configuration is written, as for the templates
set -eu
umask 077
secret=${AIDERM_PAGE_KEY_FILE:-/run/secrets/page_key}
map=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}/page-key.map

fail() {
    echo "page key: $*" >&2
    exit 1
}

rm -f "$map"
[ -e "$secret" ] || exit 0
[ -r "$secret" ] || fail "user $(id -u) cannot read $secret. Let it: chmod 644, or chown $(id -u), on the file of the host."
key=$(tr -d '[:space:]' <"$secret")
[ -n "$key" ] || exit 0
# Also because it becomes a part of nginx' configuration.
printf '%s' "$key" | grep -Eqx 'aiderm_[0-9a-f]{8}_[0-9a-f]{64}' ||
    fail "$secret holds no key. Make one with: docker compose run --rm -T keys add page --unlimited >deploy/page.key"
printf 'default "Bearer %s";\n' "$key" >"$map.new"
mv "$map.new" "$map"
