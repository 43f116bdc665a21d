#!/usr/bin/env bash
# Puts Debian's PostgreSQL and bash into a directory that becomes a layer over busybox. usage: postgres.sh DIRECTORY
# Packages are fetched and unpacked, not installed: this machine gets no database. Libraries that it has come from it.
set -euo pipefail
root=$1
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
mkdir "$packages/partial"
fetch() {
    apt-get install -qq --yes --no-install-recommends --reinstall --download-only -o Dir::Cache::Archives="$packages" \
        -o APT::Sandbox::User=root postgresql-15 >&2
}
# Where nothing had to be installed, the lists of packages may be missing, or old.
fetch || { apt-get update -qq && fetch; }
unpacked=$packages/unpacked
for package in "$packages"/*.deb; do
    dpkg-deb -x "$package" "$unpacked"
done
libraries=$unpacked/usr/lib/x86_64-linux-gnu
mkdir -p "$root"/usr/{lib,share} "$root/lib64" "$root/bin"
mv "$unpacked/usr/lib/postgresql" "$root/usr/lib/"
# What the server compiles to machine code, and its copy of LLVM, are not needed by a small database.
rm -rf "$root"/usr/lib/postgresql/15/lib/{bitcode,llvmjit.so}
mv "$unpacked/usr/share/postgresql" "$root/usr/share/"
zones=/usr/share/zoneinfo
[ -d $zones ] || zones=$unpacked$zones
cp -a "$zones" "$root/usr/share/"
mkdir -p "$root/usr/lib/locale"
cp -a /usr/lib/locale/C.utf8 "$root/usr/lib/locale/"
cp /bin/bash "$root/bin/"
find "$root/usr/lib/postgresql" "$root/bin/bash" -type f \( -name '*.so' -o -perm -100 \) |
    { LD_LIBRARY_PATH=$libraries xargs ldd 2>/dev/null || true; } | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    while read -r library; do
        cp -L "$library" "$root/usr/lib/"
    done
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
