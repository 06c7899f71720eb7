#!/bin/sh
# What does a program need to run in an empty root? `gather.sh PROGRAM ROOT` puts it there.
#
# The program as /usr/local/bin/worker, the libraries it is linked to, certificates of the public authorities, a user
# that is not root; and, of each Debian package a library is of, its status, so that scanners know what is in the
# image, and its licence. Needs Debian, of the release the program was built on.
set -eu

program=$1
root=$2

install -D -m 0755 "$program" "$root/usr/local/bin/worker"

mkdir -p "$root/var/lib/dpkg/status.d"
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 0755 "$library" "$root$library"
    # By name alone: the path may be known to dpkg with or without /usr.
    package=$(dpkg-query --search "*/$(basename "$(realpath "$library")")" | head -n 1 | cut -d : -f 1)
    dpkg-query --status "$package" > "$root/var/lib/dpkg/status.d/$package"
    install -D -m 0644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
done

install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
install -D -m 0644 /etc/os-release "$root/etc/os-release"
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
printf 'worker:x:65532:65532:worker:/:/sbin/nologin\n' > "$root/etc/passwd"
printf 'worker:x:65532:\n' > "$root/etc/group"
