#!/bin/sh
# A kernel NFS server on this host, for versions 3 to 4.2. usage: nfsd.sh STATEDIR
# STATEDIR is on a disk that outlives a crash: it has the table of exports, so that clients are not refused when the server
# comes back, and the list of clients, so that they get their locks again.
set -e
modprobe -d /var/modules nfsd
mkdir -p "$1" /var/lib/nfs
mount --bind "$1" /var/lib/nfs
cd /var/lib/nfs
mkdir -p rpc_pipefs v4recovery sm sm.bak nfsdcltrack
touch etab rmtab
mount -t nfsd nfsd /proc/fs/nfsd
rpcbind -w
# Seconds. 10 is the least, the default is 90.
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime
# The grace period of lockd, 50 s by default, holds up locks of NFSv4 too. It is a multiple of the other value, and
# neither takes a newline.
modprobe -d /var/modules lockd
printf 5 >/sys/module/lockd/parameters/nlm_timeout
printf 10 >/sys/module/lockd/parameters/nlm_grace_period
rpc.mountd --manage-gids
rpc.nfsd 4
