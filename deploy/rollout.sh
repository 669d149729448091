#!/bin/sh
# Replaces the API's image while requests come in, one replica at a time: a new replica is started beside the old ones, and when it
# is healthy an old one finishes its requests and stops. If a new one does not become healthy, everything is put back as it was, and
# the exit status is 1. Needs docker with Compose v2 and a POSIX shell; settings come from .env or the shell.
#   deploy/rollout.sh            builds the image and rolls it out; with AIDERM_ROLLOUT_BUILD=no the image is taken as it is
#   deploy/rollout.sh rollback   rolls out the image that the last rollout replaced
#   AIDERM_ROLLOUT_SECONDS       how long a new replica may take to become healthy (default 120)
set -eu
cd "$(dirname "$0")/.."
seconds=${AIDERM_ROLLOUT_SECONDS:-120}
dns=2 # seconds, until nginx has asked for the replicas' addresses again (valid=1s in its configuration)

say() { echo "rollout: $*"; }
fail() {
    echo "rollout: $*" >&2
    exit 1
}

# --- what exists ------------------------------------------------------------------------------------------------------------

state() { docker inspect --format '{{.State.Status}}' "$1" 2>/dev/null || echo gone; }
image_of() { docker inspect --format '{{.Image}}' "$1"; }
name_of() { docker inspect --format '{{.Name}}' "$1" 2>/dev/null | cut -c 2-; }
replicas() { docker compose ps --all --quiet api; }
count() { echo $#; }
contains() {
    sought=$1
    shift
    for each; do [ "$each" = "$sought" ] && return 0; done
    return 1
}

# Waits for a container to become healthy. A new one must not even restart; $2 is "new" or "old".
healthy() {
    end=$(($(date +%s) + seconds))
    while :; do
        found=$(docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}without-check{{end}} {{.RestartCount}}' "$1" 2>/dev/null) || found="gone"
        case "$2 $found" in
        "new running healthy 0" | "old running healthy "*) return 0 ;;
        "new running starting 0" | "new created "* | "old "*) ;;
        *)
            why="it is: ${found} restarts"
            return 1
            ;;
        esac
        if [ "$(date +%s)" -ge "$end" ]; then
            why="not healthy after ${seconds}s"
            return 1
        fi
        sleep 0.5
    done
}

# --- going back -----------------------------------------------------------------------------------------------------------------

new= stopped= kept=
back() {
    trap '' INT TERM HUP
    echo "rollout: going back to the image that served" >&2
    for id in $stopped; do docker start "$id" >/dev/null || true; done
    for id in $stopped; do healthy "$id" old || echo "rollout: the old replica $(name_of "$id"): $why" >&2; done
    [ -z "$stopped" ] || sleep "$dns"
    for id in $new; do
        # One that was healthy has been given requests, which it may finish.
        # shellcheck disable=SC2086
        if contains "$id" $kept; then docker stop "$id" >/dev/null 2>&1 || true; fi
        docker rm --force "$id" >/dev/null 2>&1 || true
    done
    # What is started later must be what serves now.
    if [ "$old_name" = "$image" ]; then docker tag "$old_image" "$image"; fi
    fail "FAILED: $1. The old image serves, as before"
}

# --- the rollout ----------------------------------------------------------------------------------------------------------------

action=${1:-rollout}
case $action in
rollout | rollback) ;;
*) fail "Received: $action. Allowed: rollout, rollback" ;;
esac
case $seconds in
*[!0-9]* | "") fail "AIDERM_ROLLOUT_SECONDS must be a whole number. Received: $seconds" ;;
esac
command -v docker >/dev/null || fail "docker was not found"
docker compose version >/dev/null 2>&1 || fail "docker compose (version 2) was not found"
docker info >/dev/null 2>&1 || fail "the Docker engine does not answer (docker info says why)"
project=$(docker compose config | sed -n 's/^name: //p')
image=$(docker compose config --images api | head -n 1)
wanted=$(docker compose config api | sed -n 's/^ *replicas: //p' | head -n 1)

# Not in a folder that everybody may write to, where others could take the name. Only one of two that find a stale lock can move it.
locks=$PWD/.cache
mkdir -p "$locks" 2>/dev/null && [ -w "$locks" ] || locks=${XDG_RUNTIME_DIR:?must name a folder of your own where $PWD is read-only}
lock=$locks/rollout-$project
if ! mkdir "$lock" 2>/dev/null; then
    holder=$(cat "$lock/pid" 2>/dev/null || true)
    if [ -z "$holder" ] || kill -0 "$holder" 2>/dev/null; then fail "another rollout of $project is in progress ($lock)"; fi
    mv "$lock" "$lock.$$" 2>/dev/null && rm -rf "$lock.$$"
    mkdir "$lock" 2>/dev/null || fail "another rollout of $project has just begun ($lock)"
fi
trap 'rm -rf "$lock"' EXIT
echo $$ >"$lock/pid"

old=
for id in $(replicas); do
    case $(state "$id") in
    running | restarting | paused) old="$old $id" ;;
    # Left by whoever stopped a replica, or by a rollout that was killed.
    *) docker rm "$id" >/dev/null ;;
    esac
done
# shellcheck disable=SC2086
running=$(count $old)
[ "$running" -gt 0 ] || fail "no API runs in $project: start it with make up"
[ "${wanted:-1}" -gt "$running" ] || wanted=$running
# shellcheck disable=SC2086
set -- $old
old_image=$(image_of "$1")
old_name=$(docker inspect --format '{{.Config.Image}}' "$1")

if [ "$action" = rollback ]; then
    previous=$(docker image inspect --format '{{.Id}}' "$image-previous" 2>/dev/null) ||
        fail "no image $image-previous: there was no rollout that could be taken back"
    [ "$previous" != "$old_image" ] || fail "the previous image serves already"
    docker tag "$previous" "$image"
elif [ "${AIDERM_ROLLOUT_BUILD:-yes}" != no ]; then
    AIDERM_REVISION=${AIDERM_REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
    export AIDERM_REVISION
    docker compose build --quiet api >&2 || fail "the image was not built; nothing has changed"
fi
new_image=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null) || fail "there is no image $image"

trap 'back "interrupted"' INT TERM HUP
say "$project: $wanted replica(s) of $image, $(echo "$old_image" | cut -c 8-19) -> $(echo "$new_image" | cut -c 8-19)"
before=$(replicas)
created=0
docker compose create --no-recreate --scale "api=$((running + wanted))" api >/dev/null 2>"$lock/log" || created=$?
for id in $(replicas); do
    # shellcheck disable=SC2086
    contains "$id" $before || new="$new $id"
done
# shellcheck disable=SC2086
[ "$created" -eq 0 ] && [ "$(count $new)" -eq "$wanted" ] || back "the new replicas could not be created: $(tail -n 3 "$lock/log")"

for id in $new; do
    docker start "$id" >/dev/null || back "a new replica could not be started"
    if ! healthy "$id" new; then
        echo "rollout: last lines of $(name_of "$id"):" >&2
        docker logs --tail 15 "$id" 2>&1 | sed 's/^/    /' >&2
        back "a new replica did not become healthy ($why)"
    fi
    say "$(name_of "$id") is healthy"
    sleep "$dns"
    kept="$kept $id"
    [ $# -gt 0 ] || continue
    # Docker asks it to stop and waits for stop_grace_period, in which it finishes what it has begun.
    docker stop "$1" >/dev/null || back "an old replica could not be stopped"
    stopped="$stopped $1"
    say "$(name_of "$1") has finished and stopped"
    shift
    sleep "$dns"
done
for id in $kept; do
    healthy "$id" new || back "$(name_of "$id") was healthy and is not any more ($why)"
done
trap 'rm -rf "$lock"' INT TERM HUP
for id in $stopped; do docker rm "$id" >/dev/null; done
docker tag "$old_image" "$image-previous"
say "done; make rollback goes back"
