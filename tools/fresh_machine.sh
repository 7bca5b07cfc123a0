#!/bin/sh
# Proves that a stranger's machine is enough: makes a bare Debian 12 in a folder (minbase with make, git and
# ca-certificates), clones this checkout's HEAD into it, runs `make demo` and `make test` there, prints their times and
# results, and removes the folder. Needs root, debootstrap and a Debian mirror; the mirror, apt's settings and any
# extra certificates are those of this machine.
#
#     tools/fresh_machine.sh [--keep] [--mirror URL] [--only demo|test] [FOLDER]
set -eu

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" | sed '/^set -eu/d'
    exit 2
}
say() { printf '%s\n' "$*"; }
stop() {
    say "fresh_machine: $*" >&2
    exit 1
}

suite=bookworm
keep=no
mirror=""
targets="demo test"
folder=""
while [ $# -gt 0 ]; do
    case "$1" in
    --keep) keep=yes ;;
    --mirror)
        [ $# -gt 1 ] || usage
        mirror=$2
        shift
        ;;
    --only)
        [ $# -gt 1 ] || usage
        targets=$2
        shift
        ;;
    -*) usage ;;
    *) folder=$1 ;;
    esac
    shift
done

[ "$(id -u)" -eq 0 ] || stop "needs root: debootstrap and chroot do"
for program in debootstrap unshare git; do
    command -v $program > /dev/null || stop "$program is missing: apt-get install $program"
done
checkout=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
[ -z "$(git -C "$checkout" status --porcelain)" ] || say "note: changes that are not committed are left out"

# The first address that this machine's apt uses for the suite: deb822 files, then one-line ones.
if [ -z "$mirror" ]; then
    mirror=$(for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -e "$file" ] || awk -v suite=$suite '
            /^[[:space:]]*$/ { uri = "" }
            /^URIs:/ { uri = $2 }
            /^Suites:/ { for (i = 2; i <= NF; ++i) if ($i == suite && uri != "") { print uri; exit } }' "$file"
    done
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null |
            sed -n "s/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\)  *$suite .*/\2/p")
    mirror=$(printf '%s\n' "$mirror" | head -n 1)
fi
[ -n "$mirror" ] || stop "this machine's apt names no mirror of $suite; name one with --mirror"

[ -n "$folder" ] || folder=$(mktemp -d "${TMPDIR:-/var/tmp}/cover-fresh.XXXXXX")
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
root=$folder/root
[ ! -e "$root" ] || stop "$root is there already"
clean_up() {
    # Every mount lives in a namespace of its own that ended with its command; --one-file-system is the second bolt.
    if [ $keep = no ]; then
        rm -rf --one-file-system "$root"
        rmdir "$folder" 2> /dev/null || say "logs are in $folder"
    else
        say "kept: $folder"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

start=$(date +%s)
debootstrap --variant=minbase --include=make,git,ca-certificates $suite "$root" "$mirror" > "$folder/debootstrap.log" 2>&1 || {
    tail -n 20 "$folder/debootstrap.log"
    stop "debootstrap failed"
}
apt-config dump Acquire | grep -v '^Acquire::Changelogs' > "$root/etc/apt/apt.conf.d/00of-the-host" || true
for file in /etc/hosts /etc/resolv.conf; do
    [ ! -e $file ] || cp -L $file "$root$file"
done
if ls /usr/local/share/ca-certificates/*.crt > /dev/null 2>&1; then
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates > /dev/null 2>&1 || stop "update-ca-certificates failed in the new machine"
fi
git clone -q --no-local "$checkout" "$root/root/cover" || stop "cannot clone $checkout"
say "bare $suite with $(git -C "$root/root/cover" log -1 --format='%h %s'): $(($(date +%s) - start)) s"

# Runs a command inside, with the proxy settings of this machine and nothing else of its environment.
inside() {
    unshare --mount --propagation private sh -c '
        root=$1
        shift
        mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" || exit 125
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
            ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
            ${no_proxy:+no_proxy="$no_proxy"} chroot "$root" "$@"' sh "$root" "$@"
}

failed=0
for target in $targets; do
    say "make $target ..."
    start=$(date +%s)
    if inside make --no-print-directory -C /root/cover "$target" > "$folder/$target.log" 2>&1; then result=passed; else result=FAILED; fi
    end=$(date +%s)
    built=$(stat -c %Y "$root/root/cover/build/cover" 2> /dev/null || echo 0)
    if [ "$built" -gt "$start" ]; then
        parts=" (set-up and build $((built - start)) s, then $((end - built)) s)"
    else
        parts=""
    fi
    if [ $result = passed ]; then
        tail -n 3 "$folder/$target.log" | sed 's/^/    /'
        [ $keep = yes ] || rm -f "$folder/$target.log"
    else
        failed=1
        tail -n 40 "$folder/$target.log" | sed 's/^/    /'
    fi
    say "make $target: $result in $((end - start)) s$parts"
done
[ $keep = yes ] || [ $failed = 1 ] || rm -f "$folder/debootstrap.log"
exit $failed
