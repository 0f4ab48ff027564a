#!/usr/bin/env bash
# Builds a folder with a Debian that has RabbitMQ 4 in it, once, and prints the folder's path.
#
#   rabbitmq4.sh [SUITE]     the release of Debian: trixie, the default, has RabbitMQ 4.0; forky is
#                            Debian's testing, and has what is newest when the folder is made
#   BROKERQ_RABBITMQ4_ROOT   the folder (default: rabbitmq-4-SUITE in ~/.cache/brokerq)
#
# The machine itself stays as it is, but for the package debootstrap. To have it built anew, remove
# the folder. Whoever calls it at the same time waits for the one that builds.
set -euo pipefail

suite=${1:-trixie}
root=${BROKERQ_RABBITMQ4_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/brokerq/rabbitmq-4-$suite}

refuse() {
    echo "RABBITMQ 4 CANNOT BE INSTALLED: $*" >&2
    exit 69 # EX_UNAVAILABLE
}

quietly() {
    "$@" >>"$root.log" 2>&1 || refuse "'$*' failed, see $root.log"
}

server=$root/usr/lib/rabbitmq/bin/rabbitmq-server
if [ ! -e "$server" ]; then
    [ "$(id -u)" = 0 ] || refuse "only root can build it in $root"
    mkdir -p "$(dirname "$root")"
    exec 9>"$root.lock"
    flock 9
fi
if [ ! -e "$server" ]; then
    echo "BUILDING RABBITMQ 4 (Debian $suite) IN $root: 500 MB, two minutes, once" >&2
    : >"$root.log"
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || refuse "there is neither debootstrap nor apt-get"
        quietly apt-get update -q
        quietly env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -q --no-install-recommends debootstrap
    fi
    scripts=/usr/share/debootstrap/scripts
    if [ ! -e "$scripts/$suite" ]; then # an older debootstrap has not heard of it yet
        ln -s sid "$scripts/$suite" || refuse "debootstrap does not know $suite"
    fi
    rm -rf "$root.part"
    quietly debootstrap --variant=minbase "$suite" "$root.part"
    cp /etc/hosts "$root.part/etc/hosts" # without it 4.3 never gets through its prelaunch
    # No node may start by itself: neither now nor because a package says so.
    printf '#!/bin/sh\nexit 101\n' >"$root.part/usr/sbin/policy-rc.d"
    chmod +x "$root.part/usr/sbin/policy-rc.d"
    quietly chroot "$root.part" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends rabbitmq-server
    rm -rf "$root.part/var/cache/apt/archives" "$root.part/var/lib/apt/lists"
    mv "$root.part" "$root"
fi
echo "$root"
