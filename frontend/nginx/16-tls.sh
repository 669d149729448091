#!/bin/sh
# Runs before nginx starts (the image's entry point calls it). Where a certificate is mounted, the site answers over TLS on port
# 8443, and port 8080 redirects there. Without one the site answers on port 8080.
#   AIDERM_TLS_DIR              fullchain.pem and privkey.pem; default: /etc/nginx/tls
#   AIDERM_HTTPS_PORT           the port that clients see; default: 443
#   NGINX_ENVSUBST_OUTPUT_DIR   where the configuration is written, as for the templates
set -eu
folder=${AIDERM_TLS_DIR:-/etc/nginx/tls}
template=${AIDERM_TLS_TEMPLATE:-/etc/nginx/tls.inc.template}
written=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}/tls.inc
port=${AIDERM_HTTPS_PORT:-443}

fail() {
    echo "TLS: $*" >&2
    exit 1
}

rm -f "$written"
[ -e "$folder" ] || exit 0
for name in fullchain.pem privkey.pem; do
    [ -e "$folder/$name" ] || fail "$folder holds no $name. It needs fullchain.pem and privkey.pem."
    [ -r "$folder/$name" ] || fail "user $(id -u) cannot read $folder/$name. Let it: chown $(id -u) on the file of the host."
done
case $port in
*[!0-9]* | "") fail "AIDERM_HTTPS_PORT must be a number. Received: $port" ;;
esac
# Since 1.25.1 HTTP/2 is a directive of its own, and the option of listen is deprecated.
version=$(nginx -v 2>&1 | sed -n 's#^nginx version: nginx/\([0-9]*\)\.\([0-9]*\).*#\1\2#p') || version=
old='^listen 8443 ssl http2;$'
case ${version:-0} in
0 | 10 | 11? | 12[0-5] | 1[0-9]) new='&' ;;
*) new='listen 8443 ssl;\nhttp2 on;' ;;
esac
sed -e "s/\${AIDERM_HTTPS_PORT}/$port/" -e "s/$old/$new/" "$template" >"$written.new"
mv "$written.new" "$written"
