#!/usr/bin/env bash
# Power cuts, by hand: is every acknowledged message on the disk, and not only in the system's memory?
#
#   sudo tests/power-cut.sh [ROUNDS]          (20 if not given)
#
# Needs root and loop devices. The data directory is on an ext4 in a file. While a publisher writes
# numbered messages, the numbers that were acknowledged are noted, and then the file is copied: what
# the broker has not synced is not in the copy. The copy is mounted, a broker is started on it, and a
# session that was away must get every message up to the noted number. Prints "20 of 20".
#
# That the copy is worth anything is seen with a broker that acknowledges before it syncs:
#
#   SETTINGS='journal.durability=interval journal.interval_ms=60000 journal.segment_bytes=67108864' \
#       sudo -E tests/power-cut.sh 3
#
# loses messages and prints "0 of 3". (Small segments would be synced when they are full.)
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-20}
image_mib=192
settings=(--set journal.segment_bytes=8388608)
for setting in ${SETTINGS:-}; do settings+=(--set "$setting"); done
size=700
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}

if [ "$(id -u)" != 0 ]; then
    echo "tests/power-cut.sh: mounting needs root" >&2
    exit 2
fi
for program in mkfs.ext4 losetup mount; do
    PATH=$PATH:/usr/sbin:/sbin command -v $program >/dev/null || { echo "$program is missing" >&2; exit 2; }
done
export PATH=$PATH:/usr/sbin:/sbin

if [ "$profile" = release ]; then
    cargo build --quiet --release -p tidings-broker --bin tidings
    cargo build --quiet --release -p tidings-tests --bin numbered
else
    cargo build --quiet -p tidings-broker --bin tidings
    cargo build --quiet -p tidings-tests --bin numbered
fi
tidings=$target/$profile/tidings
numbered=$target/$profile/numbered

work=$(mktemp -d)
broker=
publisher=

stop() { # a process of ours, by its id; it may be gone already
    [ -z "$1" ] && return
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

clean_up() {
    stop "$publisher"
    stop "$broker"
    for mounted in "$work/live" "$work/copied"; do
        mountpoint -q "$mounted" 2>/dev/null && umount "$mounted"
    done
    rm -rf "$work"
}
trap clean_up EXIT
mkdir "$work/live" "$work/copied"

start() { # data directory; sets broker and address
    rm -f "$work/ports.json"
    "$tidings" serve --data-dir "$1" --tcp 127.0.0.1:0 --ports-file "$work/ports.json" \
        "${settings[@]}" >>"$work/log" 2>&1 &
    broker=$!
    until [ -s "$work/ports.json" ]; do
        if ! kill -0 "$broker" 2>/dev/null; then
            echo "the broker does not start:" >&2
            tail -n 20 "$work/log" >&2
            return 1
        fi
        sleep 0.02
    done
    address=$(sed -E 's/.*"tcp":\["([^"]*)".*/\1/' "$work/ports.json")
}

good=0
for ((round = 1; round <= rounds; round++)); do
    rm -f "$work/image" "$work/copy" "$work/acked" "$work/log"
    truncate -s ${image_mib}M "$work/image"
    mkfs.ext4 -q -F "$work/image"
    mount -o loop "$work/image" "$work/live"
    start "$work/live/data"
    "$numbered" "$address" subscribe
    "$numbered" "$address" publish --size $size "$work/acked" 2>>"$work/log" &
    publisher=$!

    # A moment somewhere in the work, each time another one: after some messages and some time.
    until [ -s "$work/acked" ]; do sleep 0.01; done
    sleep "$(awk -v seed="$round$RANDOM" 'BEGIN { srand(seed); printf "%.3f", 0.05 + rand() * 0.9 }')"
    acked=$(tail -n 1 "$work/acked")
    cp --reflink=never --sparse=auto "$work/image" "$work/copy"
    meanwhile=$(tail -n 1 "$work/acked")
    stop "$publisher"; publisher=
    stop "$broker"; broker=
    umount "$work/live"

    # Mounting replays the journal of the file system, as after a power cut.
    mount -o loop "$work/copy" "$work/copied"
    result=LOST
    if start "$work/copied/data" && "$numbered" "$address" check --size $size "$acked" 2>>"$work/log"; then
        result=good
        good=$((good + 1))
    else
        cp "$work/log" "power-cut-$round.log"
    fi
    stop "$broker"; broker=
    umount "$work/copied"
    echo "round $round: $acked messages acknowledged before the cut, $((meanwhile - acked)) during the copy: $result"
done
echo "$good of $rounds"
[ "$good" = "$rounds" ]
