#!/usr/bin/env bash
# Makes the packages: packaging/build.sh [--binary FILE] [--version VERSION] [--out FOLDER]
#
# Without --binary it builds one first, the same to the byte wherever that is done with
# the same compilers: static, by musl, so that it runs on every Linux of its
# architecture. TARGET=aarch64-unknown-linux-musl makes that for arm64, where there is
# a C compiler for it, or with CARGO_BUILD=zigbuild (docs/operations.md). Needs dpkg-deb
# for the .deb, rpmbuild for the .rpm, cargo-cyclonedx for the list of crates in it (an
# SBOM beside them); what is not there is left out, and told. One staged tree is what all
# packages hold.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${TARGET:-x86_64-unknown-linux-musl}
binary=
version=$(sed -n '0,/^version = "\(.*\)"/s//\1/p' Cargo.toml)
out=target/packages
while [ $# -gt 0 ]; do
    case $1 in
        --binary) binary=$2 ;;
        --version) version=$2 ;;
        --out) out=$2 ;;
        *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

if [ -z "$binary" ]; then
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    # What the allocator would find out from the machine that builds, or, as it takes musl for
    # another machine, guess: huge pages of 2 MiB, addresses of 48 bits. For arm64 it takes
    # pages of 64 KiB by itself, and so works with those of 4 and 16 (Raspberry Pi 5) too.
    export JEMALLOC_SYS_WITH_LG_HUGEPAGE=21
    case $target in x86_64-*) export JEMALLOC_SYS_WITH_LG_VADDR=48 ;; esac
    # Paths of this machine are no part of what is built.
    RUSTFLAGS="--remap-path-prefix=$PWD=/posthaste --remap-path-prefix=$cargo_home=/cargo" \
        CFLAGS="-ffile-prefix-map=$PWD=/posthaste -ffile-prefix-map=$cargo_home=/cargo" \
        cargo "${CARGO_BUILD:-build}" --release --locked --target "$target"
    binary=${CARGO_TARGET_DIR:-target}/$target/release/posthaste
fi
# e_machine of the ELF header.
case $(od -An -tu2 -j18 -N2 "$binary" | tr -d ' ') in
    62) deb_architecture=amd64 rpm_architecture=x86_64 ;;
    183) deb_architecture=arm64 rpm_architecture=aarch64 ;;
    *) echo "$binary is for neither x86-64 nor arm64" >&2; exit 1 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
doc=$tree/usr/share/doc/posthaste
mkdir -p "$out"
put() { install -D -m "$1" "$2" "$tree/$3"; }
put 0755 "$binary" usr/bin/posthaste
put 0644 packaging/posthaste.service usr/lib/systemd/system/posthaste.service
put 0644 packaging/posthaste.socket usr/lib/systemd/system/posthaste.socket
put 0644 packaging/notify-reload.conf usr/lib/posthaste/notify-reload.conf
put 0644 packaging/sysusers.conf usr/lib/sysusers.d/posthaste.conf
put 0640 packaging/config.toml etc/posthaste/config.toml
for file in config.example.toml README.md CHANGELOG.md SECURITY.md docs/*.md docs/dialects/*.md \
    packaging/alerts.yml packaging/grafana-dashboard.json packaging/subscriptions.d/example.toml; do
    put 0644 "$file" "usr/share/doc/posthaste/$file"
done
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n'
    printf 'Files: *\nCopyright: The Posthaste authors\nLicense: MIT or Apache-2.0\n\nLicense: MIT\n'
    sed 's/^$/./; s/^/ /' LICENSE-MIT
    printf '\nLicense: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n'
} >"$doc/copyright"

# Manual pages and completions, by the binary itself, or by NATIVE where it is for another machine.
print=${NATIVE:-$binary}
if "$print" man --help >/dev/null 2>&1; then
    mkdir -p "$work/man" "$tree/usr/share/man/man1"
    "$print" man "$work/man"
    for page in "$work"/man/*.1; do gzip -9n <"$page" >"$tree/usr/share/man/man1/$(basename "$page").gz"; done
fi
if "$print" completions --help >/dev/null 2>&1; then
    complete() { "$print" completions "$1" >"$work/completion"; put 0644 "$work/completion" "$2"; }
    complete bash usr/share/bash-completion/completions/posthaste
    complete zsh usr/share/zsh/site-functions/_posthaste
    complete fish usr/share/fish/vendor_completions.d/posthaste.fish
fi
find "$tree" -type d -exec chmod 0755 {} +
find "$tree" -type f ! -path '*/bin/*' ! -path '*/etc/*' -exec chmod 0644 {} +
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

name=posthaste-$version-$rpm_architecture-linux
tar --create --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --directory "$tree" --transform "s,^\.,$name," . | gzip -9n >"$out/$name.tar.gz"
echo "$out/$name.tar.gz"

if command -v rpmbuild >/dev/null; then
    (cd "$tree" && find . -type f ! -path './etc/*' | sed 's,^\.,,' | sort) >"$work/listed"
    rpmbuild -bb --quiet --target "$rpm_architecture-linux" --define "_topdir $work/rpm" --define "staged $tree" \
        --define "listed $work/listed" --define "packaged_version ${version//-/\~}" --define "_buildhost posthaste" \
        --define "_rpmdir $work/rpms" packaging/rpm/posthaste.spec
    cp "$work"/rpms/*/*.rpm "$out/"
    echo "$out/$(basename "$work"/rpms/*/*.rpm)"
else
    echo "no .rpm: rpmbuild is not installed"
fi

if command -v dpkg-deb >/dev/null; then
    mkdir "$tree/DEBIAN"
    # Debian's zsh looks elsewhere.
    if [ -d "$tree/usr/share/zsh/site-functions" ]; then
        mv "$tree/usr/share/zsh/site-functions" "$tree/usr/share/zsh/vendor-completions"
    fi
    put 0644 packaging/deb/lintian-overrides usr/share/lintian/overrides/posthaste
    {
        printf 'posthaste (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md beside this file.\n\n' "$version"
        printf ' -- %s  %s\n' "$(sed -n 's/^Maintainer: //p' packaging/deb/control)" "$(date -R -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9n >"$doc/changelog.gz"
    depends='systemd (>= 245)'
    glibc=$(grep -ao 'GLIBC_2\.[0-9]*' "$binary" | sort -uV | tail -1 || true)
    if [ -n "$glibc" ]; then depends="libc6 (>= ${glibc#GLIBC_}), libgcc-s1, $depends"; fi
    sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$deb_architecture/; s/@DEPENDS@/$depends/" \
        -e "s/@SIZE@/$(du -sk --apparent-size "$tree" | cut -f1)/" packaging/deb/control >"$tree/DEBIAN/control"
    echo /etc/posthaste/config.toml >"$tree/DEBIAN/conffiles"
    (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
    install -m 0755 packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$tree/DEBIAN/"
    find "$tree" -type d -exec chmod 0755 {} +
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$out/posthaste_${version}_$deb_architecture.deb" >/dev/null
    echo "$out/posthaste_${version}_$deb_architecture.deb"
else
    echo "no .deb: dpkg-deb is not installed"
fi

if cargo cyclonedx --version >/dev/null 2>&1; then
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$rpm_architecture-unknown-linux-musl" --override-filename "$name.cdx"
    mv "$name.cdx.json" "$out/"
    echo "$out/$name.cdx.json"
else
    echo "no list of what it is made of: cargo-cyclonedx is not installed"
fi
