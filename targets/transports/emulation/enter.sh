#!/bin/sh
# enter FOLDER BOARD CPU RELEASE: what sshd runs for each session (ForceCommand). In namespaces of its own: nothing global
# changes, no root is needed. The arm64 programs run by a private binfmt_misc (Linux 6.7 or later), or by the system's.
set -eu
PATH=$PATH:/usr/sbin:/sbin
if [ -z "${KBIT_INSIDE:-}" ]; then
  export KBIT_INSIDE=1
  exec unshare --user --map-root-user --mount --pid --fork --kill-child "$0" "$@"
fi
folder=$1 board=$2 cpu=$3 release=$4 root=$1/rootfs
die() { echo "kbit-board: $*" >&2; exit 46; }
if mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null; then
  qemu=/usr/libexec/qemu-binfmt/aarch64-binfmt-P flags=OPF
  [ -x "$qemu" ] || { qemu=$(command -v qemu-aarch64-static); flags=OF; }
  magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf '%s' ":qemu-aarch64:M::$magic:$mask:$qemu:$flags" >/proc/sys/fs/binfmt_misc/register || die "binfmt_misc refuses qemu"
elif ! [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
  die "needs Linux 6.7 or later, or: sudo apt install binfmt-support qemu-user-static"
fi
mount --bind "$root" "$root"
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
mount --bind "$folder/boards/$board/cpuinfo" "$root/proc/cpuinfo"
for device in null zero full random urandom; do mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/home/pi"
exec chroot "$root" /usr/bin/env -i HOME=/home/pi USER=pi LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
  QEMU_CPU="$cpu" QEMU_UNAME="$release" KBIT_EMULATED="$board" /bin/sh -c "cd; ${SSH_ORIGINAL_COMMAND:-exec /bin/bash -l}"
