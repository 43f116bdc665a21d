#!/bin/sh
# One node of Kubernetes: containerd, its images, and the kubelet. It runs as the first process of a node that is a set of
# namespaces (namespaces.sh), or as any process of a host with a kernel of its own.
# Environment: NAME IP PODS (a network) PROGRAMS CONFIG LOG (directories), CGROUP_ROOT (a path, or nothing).
set -e
mkdir -p /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /var/log/containers /run/containerd /etc/cni/net.d
mount --bind /var/lib/kubelet /var/lib/kubelet
mount --make-rshared /var/lib/kubelet
# The kubelet wants a clock speed; User-Mode Linux names none.
if ! grep -q '^cpu MHz' /proc/cpuinfo; then
    sed 's/^model name.*/&\ncpu MHz\t\t: 1000.000/' /proc/cpuinfo >/run/cpuinfo
    mount --bind /run/cpuinfo /proc/cpuinfo
fi
# No look-up leaves the node.
echo nameserver 127.0.0.1 >/run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
sysctl -q -w net.ipv4.ip_forward=1
cat >/etc/cni/net.d/10-pods.conflist <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {
    "type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
cat >/run/containerd/config.toml <<END
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true # lowering it takes CAP_SYS_RESOURCE, which not every root has
  sandbox_image = "localhost/pause:1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
END
cat >/run/kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: ${CGROUP_ROOT:-/}
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: ""
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 10Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
volumeStatsAggPeriod: 10s
END
containerd -c /run/containerd/config.toml >>"$LOG/containerd.log" 2>&1 &
containerd=$!
until ctr version >/dev/null 2>&1; do
    kill -0 $containerd
    sleep 0.1
done
for images in "$CONFIG"/images/*.tar; do
    ctr -n k8s.io images import "$images" >>"$LOG/images.log" 2>&1
done
# A kubelet that is killed comes back, as systemd would have it; its pods go on meanwhile. It waits while /run/hold is there.
while :; do
    if [ ! -e /run/hold ]; then
        "$PROGRAMS/kube" kubelet --config /run/kubelet.yaml --kubeconfig "$CONFIG/$NAME.kubeconfig" --hostname-override "$NAME" \
            --node-ip "$IP" --root-dir /var/lib/kubelet --v=2 >>"$LOG/kubelet.log" 2>&1 || true
    fi
    sleep 1
done
