#!/bin/sh
# PID 1 of a host, second half, in its own root: kernel file systems, name, network; then the agent on the serial line.
# This shell stays PID 1, and gathers whatever processes end without a parent.
exec </dev/null
mount -t proc proc /proc
umount -l /old && rmdir /old
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $dir; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/berth
ln -s /run /var/run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
hostname "$host"
printf '#!/bin/sh\nexec /sbin/modprobe -d /var/modules "$@"\n' >/var/modprobe
chmod +x /var/modprobe
echo /var/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
ip addr add "$hip" dev vec0
ip link set vec0 up
stty -F /dev/ttyS0 raw -echo
PATH=/share:$PATH /share/hosts --agent
echo "the agent ended: $?"
