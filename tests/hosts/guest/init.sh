#!/bin/sh
# PID 1 of a host, first half. The kernel mounted the machine's own root, read-only. Build a root of tmpfs, with the machine's /usr
# (read-only) and /etc (with a layer of its own), everything else fresh; go there, and on with stage2.sh.
# A tmpfs and no overlay of the whole root: NFSv4 can't export from under an overlay.
# Words of the kernel's command line: host=NAME hip=A.B.C.D/NN share=DIR (of the machine, here /share).
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8
# When the harness is no root of the machine, the machine's root looks like nobody here, and a setuid mount would be run as nobody.
if [ -z "$no_setuid" ]; then
    no_setuid=1 exec setpriv --no-new-privs /bin/sh "$0"
fi
mount -n -t proc proc /proc
for word in $(cat /proc/cmdline); do
    case $word in host=* | hip=* | share=*) export "${word?}" ;; esac
done
root=/mnt
mount -n -t tmpfs -o mode=755 tmpfs $root
cd $root
mkdir -p usr etc dev proc sys run tmp root home opt srv mnt media share old var/lib var/log var/tmp var/cache .etc/up .etc/work
for dir in bin sbin lib lib32 lib64 libx32; do
    if [ -L /$dir ]; then ln -s "$(readlink /$dir)" $dir; fi
done
mount -n --bind /usr usr
mount -n -t hostfs -o "$share" none share
# The machine's /lib has no modules of this kernel: all look here.
mkdir -p var/modules/lib
ln -s /usr/lib/uml/modules var/modules/lib/modules
modprobe -d $root/var/modules overlay
mount -n -t overlay -o lowerdir=/etc,upperdir=$root/.etc/up,workdir=$root/.etc/work overlay etc
mount -n --move /dev dev
umount -n /proc
pivot_root . old
exec chroot . /bin/sh /share/stage2.sh
