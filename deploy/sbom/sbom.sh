#!/bin/sh
# Writes what is inside each image: sbom/NAME.cdx.json (CycloneDX) and sbom/NAME.licences.csv. `make sbom` calls it.
# Not `docker buildx build --sbom`: it needs the containerd image store or a builder in a container, and a scanner from a registry;
# with the engine's own builder it ends with "Attestation is not supported for the docker driver" (engine 26, buildx 0.13).
# Needs docker with Compose v2 and Python 3.11, whose environment with the pinned CycloneDX tool is made in .cache/sbom.
#   deploy/sbom/sbom.sh [api] [frontend] [trainer] [scorer]   default: all
#   AIDERM_SBOM   where to write (default sbom)
set -eu
cd "$(dirname "$0")/../.."
target=${AIDERM_SBOM:-sbom}
tools=.cache/sbom
stamp=$tools/.installed-$(cksum <deploy/sbom/requirements.lock | tr ' ' -)
[ $# -gt 0 ] || set -- api frontend trainer scorer

fail() {
    echo "sbom: $*" >&2
    exit 1
}
docker compose version >/dev/null 2>&1 || fail "docker compose (version 2) was not found"
docker info >/dev/null 2>&1 || fail "the Docker engine does not answer (docker info says why)"

if [ ! -e "$stamp" ]; then
    rm -rf "$tools"
    "${PYTHON:-python3.11}" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r deploy/sbom/requirements.lock
    touch "$stamp"
fi

work=$(mktemp -d)
container=
trap 'rm -rf "$work"; [ -z "$container" ] || docker rm --force "$container" >/dev/null' EXIT
mkdir -p "$target"
for name; do
    case $name in
    api | frontend | trainer | scorer) ;;
    *) fail "Received: $name. Allowed: api, frontend, trainer, scorer" ;;
    esac
    [ "${AIDERM_SBOM_BUILD:-yes}" = no ] || docker compose --profile train --profile score build --quiet "$name" >&2
    image=$(docker compose --profile train --profile score config --images "$name" | head -n 1)
    container=$(docker create "$image")
    mkdir "$work/$name"
    # What Debian's package manager knows, and what stands in its packages about their licences.
    docker cp --quiet "$container:/var/lib/dpkg/status" "$work/$name/dpkg-status"
    docker cp --quiet "$container:/usr/share/doc" "$work/$name/doc" 2>/dev/null || mkdir -p "$work/$name/doc"
    if [ "$name" != frontend ]; then # the page has no packages: what is served is what stands in frontend/public
        "$tools/bin/python" -m venv --without-pip "$work/$name/env"
        # What each package says of itself is enough; the packages themselves are gigabytes.
        docker run --rm --network none --entrypoint sh "$image" -c 'cd /opt/aiderm/lib/python3.11/site-packages && tar -cf - ./*.dist-info' |
            tar -xf - -C "$work/$name/env/lib/python3.11/site-packages"
        "$tools/bin/cyclonedx-py" environment --output-reproducible --spec-version 1.6 --output-format JSON \
            --output-file "$work/$name/python.json" "$work/$name/env" 2>"$work/log" || fail "$(tail -n 5 "$work/log")"
    fi
    docker rm --force "$container" >/dev/null
    container=
    "$tools/bin/python" deploy/sbom/write.py "$name" "$image" "$work/$name" "$target"
done
