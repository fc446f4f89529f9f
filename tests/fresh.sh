#!/usr/bin/env bash
# tests/fresh.sh: follows the README on a fresh Debian 12, in a chroot of its own.
#
# Usage:   tests/fresh.sh DIRECTORY [PART…]     as root; DIRECTORY gets the chroot (about 3 GB with the build); parts as for tests/run
# Does:    mmdebstrap (what a minimal Debian has, and the certificates), the Rust of this machine mounted into it,
#          the committed HEAD of this repository cloned into it, then tests/run there. Nothing of this machine's packages is seen.
# Result:  the output and the exit status of tests/run.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,7p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
root=$1
shift
command -v mmdebstrap >/dev/null || { echo "missing: mmdebstrap: install it as root: apt-get install mmdebstrap"; exit 1; }
if [ ! -x "$root/bin/bash" ]; then
    mmdebstrap --variant=minbase --include=ca-certificates bookworm "$root"
fi
rm -rf "$root/work"
mkdir -p "$root/work" "$root/root/.cargo" "$root/root/.rustup"
git clone -q "$here" "$root/work/main"
[ -d "$here/../shared" ] && cp -r "$here/../shared" "$root/work/shared"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
for settings in /etc/apt/apt.conf.d/*; do # a proxy, if this machine has one
    grep -qi proxy "$settings" 2>/dev/null && cp "$settings" "$root/etc/apt/apt.conf.d/"
done
# A mount namespace of its own: whatever happens, no mount stays behind.
exec unshare --mount --propagation private bash -euc '
    root=$1; shift
    mount --rbind /dev "$root/dev"; mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"
    mount --bind "${CARGO_HOME:-$HOME/.cargo}" "$root/root/.cargo"; mount --bind "${RUSTUP_HOME:-$HOME/.rustup}" "$root/root/.rustup"
    exec env -i HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$root" bash -c "cd /work/main && exec tests/run \"\$@\"" fresh "$@"
' fresh "$root" "$@"
