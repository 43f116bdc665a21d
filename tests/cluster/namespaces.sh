#!/bin/sh
# The first process of a node that is a set of namespaces of this machine: gives it a view of its own of what the kubelet and
# containerd write, and goes on with node.sh. Environment: OWN (its directory), TOP (the cluster's directory), and what node.sh wants.
set -e
mount --make-rprivate /
# TOP lies below /run, of which the node gets one of its own.
mount -t tmpfs tmpfs /media
mkdir /media/own /media/config /media/log /media/programs
mount --bind "$OWN" /media/own
mount --bind "$TOP/config" /media/config
mount --bind "$TOP/log/$NAME" /media/log
mount --bind "$PROGRAMS" /media/programs
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock
# The kubelet sets parameters of the whole machine's kernel: it gets files instead.
for parameter in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=/media/own/$(echo $parameter | tr / _)
    cat /proc/sys/$parameter >"$copy"
    mount --bind "$copy" /proc/sys/$parameter
done
for directory in /var/lib /var/log /etc/cni /mnt; do
    mkdir -p $directory "/media/own$directory"
    mount --bind "/media/own$directory" $directory
done
hostname "$NAME"
mount --make-rshared /
export CONFIG=/media/config LOG=/media/log PROGRAMS=/media/programs
exec sh /media/config/node.sh
