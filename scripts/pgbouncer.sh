#!/usr/bin/env bash
# Puts PgBouncer, for the tests, into .envs/pgbouncer: Debian's package and the libraries it lacks
# here, unpacked and not installed, so it needs no root and changes nothing in the system. Where
# that is impossible it says so, and the tests use the system's own or are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

env=$PWD/.envs/pgbouncer
! "$env/pgbouncer" --version >/dev/null 2>&1 || exit 0
! PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null || exit 0

give_up() {
  echo "no PgBouncer ($1): its tests will be skipped unless you install it" >&2
  exit 0
}
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "this is no Debian"

rm -rf "$env"
mkdir -p "$env/apt/lists/partial" "$env/apt/cache/archives/partial" "$env/debs"
cd "$env/debs"
trap 'rm -rf "$env/apt" "$env/debs"' EXIT
own=(-o "Dir::State::Lists=$env/apt/lists" -o "Dir::Cache=$env/apt/cache"
  -o "APT::Sandbox::User=$(id -un)" -o Acquire::Retries=3)

# The system's package lists may be missing, as in container images, or too old.
echo "unpacking PgBouncer into .envs/pgbouncer" >&2
apt-get "${own[@]}" -qq update >&2 || give_up "its package lists cannot be read"
apt-get "${own[@]}" -qq download pgbouncer >&2 || give_up "it cannot be downloaded"
depends=$(dpkg-deb -f pgbouncer_*.deb Depends)
for library in $(tr ',' '\n' <<<"$depends" | sed -nE 's/^ *(lib[^ |]+).*/\1/p'); do
  dpkg -s "$library" >/dev/null 2>&1 || apt-get "${own[@]}" -qq download "$library" >&2 ||
    give_up "$library cannot be downloaded"
done
for deb in *.deb; do dpkg-deb -x "$deb" "$env"; done

libraries=$(find "$env" -name 'lib*.so.*' -printf '%h\n' | sort -u | paste -sd:)
cat >"$env/pgbouncer.new" <<END
#!/bin/sh
LD_LIBRARY_PATH='$libraries' exec '$env/usr/sbin/pgbouncer' "\$@"
END
chmod +x "$env/pgbouncer.new"
"$env/pgbouncer.new" --version >/dev/null || give_up "Debian's does not run here"
mv "$env/pgbouncer.new" "$env/pgbouncer"
