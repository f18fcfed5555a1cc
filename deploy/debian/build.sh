#!/usr/bin/env bash
# Usage: build.sh BUNDLE.tar (from `make bundle`)
# Writes the Debian package next to the bundle, for example edge-agent_0.1.0+py3.11_arm64.deb. Nothing is compiled or
# run, so any machine with dpkg-deb can build for any other. The same bundle at the same commit gives the same file.
set -euo pipefail
umask 022
here=$(dirname "$(readlink -f "$0")")  # not cd, which CDPATH changes
bundle=$(realpath "$1")
[ -n "${SOURCE_DATE_EPOCH:-}" ] || SOURCE_DATE_EPOCH=$(git -C "$here" log -1 --format=%ct)
export SOURCE_DATE_EPOCH
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
tree=$aside/tree
inside=$tree/usr/lib/edge-agent

main() {
    command -v dpkg-deb >/dev/null || fail "dpkg-deb was not found. Install dpkg."
    unpack
    find_names
    write_documents
    write_control
    pack
}

fail() { echo "edge-agent: $*" >&2; exit 1; }

unpack() {
    mkdir -p "$inside" "$tree/DEBIAN"
    tar -x -f "$bundle" -C "$inside" --strip-components 1 --no-same-owner --no-same-permissions
    rm -f "$inside/LICENSE"  # Debian already provides the license text: see the copyright file
}

find_names() {
    local machine
    read -r machine python <"$inside/for"
    case $machine in
        x86_64) architecture=amd64 ;;
        aarch64) architecture=arm64 ;;
        *) fail "Cannot build a Debian package for $machine. Supported machines: x86_64 and aarch64." ;;
    esac
    # The Python version is part of the package version: the package for the next Debian release then counts as newer.
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$inside/pyproject.toml")+py$python
}

write_documents() {
    local documents=$tree/usr/share/doc/edge-agent
    install -Dm644 "$here/copyright" "$documents/copyright"
    install -Dm644 "$here/lintian-overrides" "$tree/usr/share/lintian/overrides/edge-agent"
    fill "$here/changelog" | gzip -9n >"$documents/changelog.gz"
}

write_control() {
    fill "$here/control" >"$tree/DEBIAN/control"
    install -m755 "$here/postinst" "$here/prerm" "$tree/DEBIAN"
    # When apt purges, the bundle is already removed, so the code of install.sh --purge is copied into the script.
    sed -e "/^@remove@/{r $inside/deploy/systemd/install/system.sh" -e "r $inside/deploy/systemd/install/remove.sh" \
        -e 'd}' "$here/postrm" >"$tree/DEBIAN/postrm"
    chmod 755 "$tree/DEBIAN/postrm"
    (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
}

fill() {
    sed -e "s/@version@/$version/" -e "s/@architecture@/$architecture/" -e "s/@python@/$python/" \
        -e "s/@next_python@/3.$((${python#3.} + 1))/" -e "s/@size_kb@/$(du -sk --apparent-size "$tree/usr" | cut -f1)/" \
        -e "s/@date@/$(date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")/" "$1"
}

pack() {
    local package
    package=$(dirname "$bundle")/edge-agent_${version}_$architecture.deb
    find "$tree" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
    # Wheels are already compressed: xz would take two minutes here and seconds on a board, and save 1 %.
    dpkg-deb --root-owner-group -Znone --no-uniform-compression --build "$tree" "$package" >/dev/null
    echo "$(basename "$package"): $(($(stat --format %s "$package") >> 20)) MB"
}

main
