#!/bin/sh
# Merges docker-compose.yml and stack.yml into one file that `docker stack deploy` accepts, and deploys it. Settings come from the
# shell or .env, as for compose. Needs docker with Compose 2.24 or later; docs/swarm.md explains the rest.
#   deploy/swarm/stack.sh config     prints the file
#   deploy/swarm/stack.sh deploy …   deploys it on the swarm whose manager DOCKER_HOST or the context names, waits, and ends with a
#                                    status other than 0 if a service did not start or was rolled back (further arguments go to
#                                    `docker stack deploy`, e.g. --with-registry-auth)
#   AIDERM_STACK                     the stack's name; default: aiderm
#   AIDERM_STACK_FILES               more overlays, separated by spaces, e.g. deploy/swarm/tls.yml
set -eu
cd "$(dirname "$0")/../.."

fail() {
    echo "stack: $*" >&2
    exit "${code:-1}"
}

# A secret of a swarm never changes, so its name gets a part of its content's digest: a changed file is a new secret and a rolling update.
name_secrets() {
    awk '
        /^[a-z]/ { inside = /^secrets:/ }
        inside && $1 == "name:" { name = $2; next }
        inside && $1 == "file:" {
            file = substr($0, index($0, ":") + 2)
            gsub(/^"|"$/, "", file)
            command = "test -s \"" file "\" && sha256sum <\"" file "\" | cut -c 1-12"
            digest = ""
            command | getline digest
            close(command)
            if (digest == "") { print "stack: a secret needs a file that holds something. Received: " file >"/dev/stderr"; exit 1 }
            print "    name: " name "_" digest
        }
        { print }'
}

# Compose merges the files; its profiles stay out. It writes some numbers as text and some text as numbers, and the older schema of
# `docker stack` is strict about both.
config() {
    set -- -f docker-compose.yml -f deploy/swarm/stack.yml
    for file in ${AIDERM_STACK_FILES:-}; do set -- "$@" -f "$file"; done
    merged=$(docker compose --project-name "$stack" "$@" config) || fail "the files do not go together"
    address=$(printf '%s\n' "$merged" | sed -n 's/^x-http-address: *//p' | tr -d '"')
    printf '%s\n' "$merged" | grep -Eq '^ +target: 8443$' || [ "$address" = 0.0.0.0 ] ||
        fail "a swarm publishes on all addresses of its nodes, and there is no TLS. Received: AIDERM_HTTP_ADDRESS=$address. Allowed:" \
            "AIDERM_STACK_FILES=deploy/swarm/tls.yml; or AIDERM_HTTP_ADDRESS=0.0.0.0, where a firewall lets only a proxy with TLS through"
    printf '%s\n' "$merged" | sed -E 's/^( +(published|size): )"([0-9]+)"$/\1\3/; s/^( +cpus: )([0-9.]+)$/\1"\2"/; /^(name|x-http-address): /d' | name_secrets
}

# Name, time and state of the last update of each service.
updates() {
    docker service ls --quiet --filter "label=com.docker.stack.namespace=$stack" | while read -r id; do
        docker service inspect --format '{{.Spec.Name}} {{with .UpdateStatus}}{{.StartedAt.UnixNano}} {{.State}}: {{.Message}}{{end}}' "$id"
    done
}

stack=${AIDERM_STACK:-aiderm}
case ${1:-} in
config) config ;;
deploy)
    shift
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    config >"$folder/stack.yml"
    updates >"$folder/before"
    docker stack deploy --detach=false --compose-file "$folder/stack.yml" "$@" "$stack"
    # Also when the command was content with a rollback.
    updates | grep -Fvx -f "$folder/before" | grep -E '^[^ ]+ [0-9]+ (rollback|paused)' >"$folder/bad" || exit 0
    fail "not updated: $(cat "$folder/bad")"
    ;;
*) code=2 fail "expected config or deploy. Received: ${1:-nothing}" ;;
esac
