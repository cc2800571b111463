#!/usr/bin/env bash
# Puts Chromium and its driver, for the dashboard's test, into .envs/chromium: Debian's packages
# and the libraries they lack here, unpacked and not installed, so it needs no root and changes
# nothing in the system. Where that is impossible it says so, and the test uses the system's own
# or is named as not run.
set -euo pipefail
cd "$(dirname "$0")/.."

env=$PWD/.envs/chromium
! "$env/chromium" --version >/dev/null 2>&1 || exit 0
! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null || exit 0

give_up() {
  echo "no Chromium ($1): the dashboard's test will be skipped unless you install it" >&2
  exit 0
}
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "this is no Debian"

rm -rf "$env"
mkdir -p "$env/apt/lists/partial" "$env/apt/cache/archives/partial"
trap 'rm -rf "$env/apt"' EXIT
own=(-o "Dir::State::Lists=$env/apt/lists" -o "Dir::Cache=$env/apt/cache"
  -o "APT::Sandbox::User=$(id -un)" -o Acquire::Retries=3 -o Debug::NoLocking=true)

# The system's package lists may be missing, as in container images, or too old.
echo "unpacking Chromium into .envs/chromium (130 MB to download)" >&2
apt-get "${own[@]}" -qq update >&2 || give_up "its package lists cannot be read"
apt-get "${own[@]}" -qq -y --no-install-recommends --download-only install \
  chromium chromium-driver >&2 || give_up "it cannot be downloaded"
for deb in "$env"/apt/cache/archives/*.deb; do dpkg-deb -x "$deb" "$env"; done

libraries=$(find "$env/usr/lib" -name 'lib*.so*' -printf '%h\n' | sort -u | paste -sd:)
for name in chromium chromedriver; do
  program=$env/usr/lib/chromium/chromium
  [ "$name" = chromium ] || program=$env/usr/bin/chromedriver
  cat >"$env/$name.new" <<END
#!/bin/sh
LD_LIBRARY_PATH='$libraries' exec '$program' "\$@"
END
  chmod +x "$env/$name.new"
  "$env/$name.new" --version >/dev/null || give_up "Debian's $name does not run here"
done
mv "$env/chromedriver.new" "$env/chromedriver"
mv "$env/chromium.new" "$env/chromium"
