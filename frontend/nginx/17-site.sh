#!/bin/sh
# Runs before nginx starts (the image's entry point calls it). Writes the lists that a template cannot hold:
#   AIDERM_HOSTS          names that clients may call this server by, comma-separated, without ports; default: those of this machine.
#                         *.example.org stands for every name below example.org, and * alone for every name.
#   AIDERM_CORS_ORIGINS   other sites whose pages may ask for predictions, comma-separated (https://a.example); default: none
#   AIDERM_REAL_IP_FROM   networks of the proxies in front of nginx, comma-separated (10.0.0.0/8,fd00::/8). From there, the client's
#                         address is the last one in X-Forwarded-For. Default: none, the client is who has connected.
#   NGINX_ENVSUBST_OUTPUT_DIR   where the files are written, as for the templates
set -euf
folder=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}

fail() {
    echo "site: $*" >&2
    exit 1
}

# Each entry of a comma-separated list on a line of its own, in lower case, without blanks around it.
entries() { printf '%s' "$1" | tr '[:upper:]' '[:lower:]' | tr ',' '\n' | sed 's/^[[:blank:]]*//; s/[[:blank:]]*$//' | grep -v '^$' || true; }

# check LIST PATTERN MESSAGE: refuses an entry that does not match. The entries become part of nginx' configuration.
check() {
    wrong=$(printf '%s\n' "$1" | grep -v '^$' | grep -Evx "$2" | head -n 1) || true
    [ -z "$wrong" ] || fail "$3 Received: $wrong"
}

label='[a-z0-9]([a-z0-9_-]*[a-z0-9])?'
name="$label(\\.$label)*"
address='\[[0-9a-f:.]+\]'

# IPv6 addresses stand in brackets in Host.
hosts=$(entries "${AIDERM_HOSTS:-localhost,127.0.0.1,::1}" | sed -E 's/^[0-9a-f]*:[0-9a-f.]*:[0-9a-f:.]*$/[&]/')
check "$hosts" "\\*|(\\*\\.)?$name|$address" "AIDERM_HOSTS must list host names without ports, such as skin.example.org, *.example.org or ::1; or be *."
origins=$(entries "${AIDERM_CORS_ORIGINS:-}")
check "$origins" "https?://($name|$address)(:[0-9]{1,5})?" "AIDERM_CORS_ORIGINS must list http(s)://host or http(s)://host:port; * is not allowed."
proxies=$(entries "${AIDERM_REAL_IP_FROM:-}")
check "$proxies" '[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(/[0-9]{1,2})?|[0-9a-f:]*:[0-9a-f:.]*(/[0-9]{1,3})?' "AIDERM_REAL_IP_FROM must list addresses or networks, such as 10.0.0.0/8."

umask 022
# An empty list leaves an empty file: nothing of the last start remains.
printf '%s\n' "$hosts" | sed -e '/^$/d' -e 's/^\*$/default 1;/' -e '/;$/!s/.*/"&" 1;/' >"$folder/hosts.map"
printf '%s\n' "$origins" | sed -e '/^$/d' -e 's/.*/"&" 1;/' >"$folder/origins.map"
{
    printf '%s\n' "$proxies" | sed -e '/^$/d' -e 's/.*/set_real_ip_from &;/'
    [ -z "$proxies" ] || echo "real_ip_header X-Forwarded-For;"
} >"$folder/real-ip.inc"
