#!/bin/sh
# The commands edge-agent and edge-convert of an installed version. install.sh puts this file in the place of pip's
# scripts, which stop working when PYTHONPATH or PYTHONHOME is set, or when the system's Python is replaced.
command=$(readlink -f "$0")
version=${command%/*/*}
if [ ! -x "$version/bin/python" ]; then
    echo "edge-agent: $(readlink -m "$version/bin/python"), the Python of this installation, does not exist any more. Run: sudo deploy/systemd/install.sh --upgrade (in a checkout, or in the bundle for the new Python). With apt, install the package for the new Python." >&2
    exit 1
fi
exec "$version/bin/python" -I -X faulthandler "$version/system/start.py" "${command##*/}" "$@"
