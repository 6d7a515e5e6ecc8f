#!/usr/bin/env bash
# Tests the packages in a root folder, without a running systemd: install, start as the
# unit would, upgrade with data kept, remove, purge.
#
#   packaging/test.sh BINARY
#
# What is not there to test with (dpkg, root, lintian, rpm) is left out, and told.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1
skip() { echo "skipped: $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

for tool in dpkg dpkg-deb deb-systemd-helper systemd-sysusers systemd-analyze setpriv perl; do
    if ! command -v "$tool" >/dev/null; then
        skip "the packages: there is no $tool"
        exit 0
    fi
done
if [ "$(id -u)" != 0 ]; then
    skip "the packages: only root can install into a root folder"
    exit 0
fi

work=$(mktemp -d)
daemon=
finish() {
    if [ -n "$daemon" ]; then kill -KILL "$daemon" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT
chmod 0755 "$work"
root=$work/root
packaging/build.sh --binary "$binary" --out "$work"
first=$(echo "$work"/*.deb)

# -- What stands in the packages.
dpkg-deb --raw-extract "$first" "$work/next"
sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
echo '# of the next version' >>"$work/next/usr/share/doc/posthaste/config.example.toml"
dpkg-deb --root-owner-group -Znone --build "$work/next" "$work/next.deb" >/dev/null
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error "$first"
else
    skip "lintian is not installed"
fi
for rpm in "$work"/*.rpm; do
    if [ ! -e "$rpm" ]; then skip "rpmbuild is not installed"; continue; fi
    rpm --query --package --queryformat '[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME}:%{FILEGROUPNAME}\n]' "$rpm" >"$work/listed"
    grep -qx '/etc/posthaste/config.toml 100640 root:posthaste' "$work/listed" || fail "the .rpm: $(cat "$work/listed")"
    [ "$(rpm --query --package --configfiles "$rpm")" = /etc/posthaste/config.toml ] || fail "the .rpm's configuration"
done
# The units, with the binary where it is here.
mkdir -p "$work/units"
sed "s,/usr/bin/posthaste,$(readlink -f "$binary")," packaging/posthaste.service >"$work/units/posthaste.service"
cp packaging/posthaste.socket "$work/units/"
said=$(systemd-analyze verify "$work"/units/* 2>&1) || fail "systemd-analyze verify: $said"
[ -z "$said" ] || fail "systemd-analyze verify: $said"
systemd-analyze security --offline=true --threshold=15 --no-pager packaging/posthaste.service >"$work/security" ||
    fail "$(tail -1 "$work/security")"

# -- A machine to install on.
mkdir -p "$root"/var/lib/dpkg/{info,updates} "$root"/etc "$root"/usr
touch "$root/var/lib/dpkg/status"
package() {
    SYSTEMD_LOG_LEVEL=err dpkg --root="$root" --force-script-chrootless --force-depends --force-confold --log="$work/dpkg.log" "$@" \
        >"$work/dpkg" 2>&1 || fail "dpkg $*: $(cat "$work/dpkg")"
    if grep -q "posthaste: warning" "$work/dpkg"; then fail "$(cat "$work/dpkg")"; fi
}
id_in() { sed -n "s/^posthaste:[^:]*:\([0-9]*\):.*/\1/p" "$root/etc/$1"; }
modes() { (cd "$root" && stat -c '%a %u:%g' "$@"); }

# Runs the command of the unit as its user, with the root folder's paths in place of
# the machine's, until it says that it is ready.
start() {
    perl -MSocket -e '
        my ($path, $log) = @ARGV;
        my $socket;
        socket($socket, AF_UNIX, SOCK_DGRAM, 0) && bind($socket, pack_sockaddr_un($path)) or die "$path: $!";
        chmod 0666, $path;
        open(my $told, ">", $log) or die "$log: $!";
        $told->autoflush(1);
        alarm 120;
        while (defined recv($socket, my $words, 4096, 0)) { print $told "$words\n"; exit if $words =~ /STOPPING=1/; }
    ' "$work/notify" "$work/told" &
    manager=$!
    until [ -S "$work/notify" ]; do kill -0 "$manager" || fail "there is no service manager"; sleep 0.05; done
    local command
    command=$(sed -n "s,^ExecStart=\(.*\),\1,p" "$root/usr/lib/systemd/system/posthaste.service")
    # shellcheck disable=SC2086
    setpriv --reuid="$(id_in passwd)" --regid="$(id_in group)" --clear-groups --no-new-privs --inh-caps=-all \
        env -i NOTIFY_SOCKET="$work/notify" POSTHASTE_STORAGE_PATH="$root/var/lib/posthaste" \
        POSTHASTE_SERVICE_LISTEN="unix:$root/var/lib/posthaste/api.sock" \
        $(sed "s, /, $root/,g; s,^/,$root/," <<<"$command") >"$work/log" 2>&1 &
    daemon=$!
    for _ in $(seq 600); do
        if grep -q READY=1 "$work/told" 2>/dev/null; then return; fi
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    fail "it is not ready: $(cat "$work/log")"
}
ask() { "$root/usr/bin/posthaste" "$@" --socket "$root/var/lib/posthaste/api.sock"; }
stop() {
    kill -TERM "$daemon"
    wait "$daemon" || fail "it ended with $?: $(cat "$work/log")"
    daemon=
    wait "$manager" || fail "it did not say that it stops"
    rm -f "$work/notify" "$work/told"
}

# -- Install.
package --install "$first"
user=$(id_in passwd) group=$(id_in group)
[ -n "$user" ] && [ -n "$group" ] || fail "there is no user"
[ "$(modes etc/posthaste/config.toml)" = "640 0:$group" ] || fail "configuration: $(modes etc/posthaste/config.toml)"
[ "$(modes var/lib/posthaste)" = "700 $user:$group" ] || fail "store: $(modes var/lib/posthaste)"
[ -L "$root/etc/systemd/system/multi-user.target.wants/posthaste.service" ] || fail "it is not enabled"
start
ask publish --type package.installed --data '{"kept": true}' >/dev/null
stop

# -- Upgrade: data and what was configured are kept.
echo '# ours' >>"$root/etc/posthaste/config.toml"
package --install "$work/next.deb"
grep -q '^# ours' "$root/etc/posthaste/config.toml" || fail "the configuration was replaced"
[ "$(modes etc/posthaste/config.toml)" = "640 0:$group" ] || fail "configuration: $(modes etc/posthaste/config.toml)"
grep -q '^# of the next version' "$root/usr/share/doc/posthaste/config.example.toml" || fail "it was not upgraded"
start
ask status --json | grep -q '"events":1[,}]' || fail "the event was not kept: $(ask status)"
stop

# -- A wrong configuration is told, and stops nothing.
sed -i 's/^\[storage\]/nonsense = 1\n&/' "$root/etc/posthaste/config.toml"
dpkg --root="$root" --force-script-chrootless --force-depends --force-confold --log="$work/dpkg.log" \
    --install "$work/next.deb" >"$work/dpkg" 2>&1 || fail "$(cat "$work/dpkg")"
grep -q 'posthaste: warning' "$work/dpkg" || fail "the fault was not told"

# -- Remove keeps what is ours, purge does not.
package --remove posthaste
[ ! -e "$root/usr/bin/posthaste" ] || fail "the binary is still there"
[ -e "$root/var/lib/posthaste/posthaste.redb" ] && [ -e "$root/etc/posthaste/config.toml" ] || fail "remove took too much"
package --purge posthaste
for path in var/lib/posthaste etc/posthaste etc/systemd/system/multi-user.target.wants/posthaste.service; do
    [ ! -e "$root/$path" ] && [ ! -L "$root/$path" ] || fail "purge left $path"
done
echo "the packages are fine"
