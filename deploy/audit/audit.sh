#!/bin/sh
# Looks for known advisories against the locked packages: advisories.py, in an environment of its own. `make audit` calls it.
# Exit status 0: none. 1: there are some. 3: the data could not be reached. Needs Python 3.11, and npm for the TypeScript client.
set -eu
cd "$(dirname "$0")/../.."
tools=.cache/audit
stamp=$tools/.installed-$(cksum <deploy/audit/requirements.lock | tr ' ' -)
if [ ! -e "$stamp" ]; then
    rm -rf "$tools"
    "${PYTHON:-python3.11}" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r deploy/audit/requirements.lock
    touch "$stamp"
fi
exec "$tools/bin/python" deploy/audit/advisories.py
