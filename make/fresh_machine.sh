#!/usr/bin/env bash
# A newcomer's first minutes on a machine that has nothing but Debian: a minimal root is made, gets what
# README.md asks for and no more, and this tree's last commit is cloned into it, where a user without
# privileges runs README's lines. Needs root, and debootstrap (installed where it is missing).
#
# How packages are fetched (mirrors, certificates, proxies) is this machine's own configuration, which is
# lent to the root for the run. The root is kept in build/fresh-machine and made anew when it must have
# other packages; what a run does in it is thrown away.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
say() { echo "fresh-machine: $*" >&2; }

[ "$(id -u)" = 0 ] || { say "this makes a root of its own, so it must be run as root"; exit 1; }
command -v apt-get >/dev/null || { say "this needs Debian, or a system with apt-get"; exit 1; }
command -v debootstrap >/dev/null || {
  say "installing debootstrap ..."
  apt-get update -qq && apt-get install -y -qq debootstrap >/dev/null
}

# The packages of README's own line.
packages=$(sed -nE 's/.*`apt-get install ([^`]*)`.*/\1/p' README.md | head -n 1)
[ -n "$packages" ] || { say "README.md names no packages"; exit 1; }

# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
# The archive that this machine itself takes its release from.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
  awk -v codename="$codename" '$2 == codename { print $1; exit }')
[ -n "$mirror" ] || { say "no package archive of $codename is configured here"; exit 1; }

base=$here/build/fresh-machine/base
run=$here/build/fresh-machine/run
wanted="$codename $packages"

# The host's word on networks: only files that are there, read by whoever fetches packages.
lend() {
  local file
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/npmrc /usr/etc/npmrc \
      /etc/ssl/certs/ca-certificates.crt /etc/apt/apt.conf.d /etc/apt/auth.conf.d \
      /etc/apt/sources.list.d /etc/apt/preferences.d; do
    [ -e "$file" ] || continue
    mkdir -p "$1$(dirname "$file")"
    cp -rLT "$file" "$1$file"
  done
}

if [ "$(cat "$base.made-of" 2>/dev/null)" != "$wanted" ]; then
  say "making a minimal $codename with: $packages"
  rm -rf "$base" "$base.made-of"
  mkdir -p "$base"
  debootstrap --variant=minbase "$codename" "$base" "$mirror" >"$base.log" 2>&1 ||
    { tail -n 20 "$base.log" >&2; exit 1; }
  lend "$base"
  rm -f "$base/etc/apt/sources.list"
  # shellcheck disable=SC2086
  chroot "$base" sh -c "apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $packages" >>"$base.log" 2>&1 ||
    { tail -n 20 "$base.log" >&2; exit 1; }
  chroot "$base" useradd --create-home newcomer
  echo "$wanted" >"$base.made-of"
fi

rm -rf "$run"
trap 'rm -rf "$run"' EXIT
cp -a --reflink=auto "$base" "$run"
lend "$run"
home=/home/newcomer
git clone --quiet --no-hardlinks --depth 1 "file://$here" "$run$home/ic-bridge"
for file in "$HOME/.npmrc" "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
  [ ! -e "$file" ] || install -D -m 600 "$file" "$run$home/${file#"$HOME"/}"
done
cp make/fresh_machine_lines.sh "$run$home/lines.sh"
chroot "$run" chown -R newcomer: "$home"

# Names of variables that say how packages are fetched; folders of this machine are not lent.
lent=()
while IFS='=' read -r name value; do
  case $name in
    PIP_FIND_LINKS | PIP_CONFIG_FILE | PIP_CACHE_DIR) ;;
    PIP_* | NPM_CONFIG_* | npm_config_* | http_proxy | https_proxy | no_proxy | HTTP_PROXY | \
      HTTPS_PROXY | NO_PROXY | SSL_CERT_FILE | REQUESTS_CA_BUNDLE | NODE_EXTRA_CA_CERTS)
      lent+=("$name=$value") ;;
  esac
done < <(env)

say "running README's lines as a user without privileges ..."
# Processes and mounts of its own: nothing of it is left when it ends. The first of them would not
# hear of an interrupt, so this script waits beside it.
unshare --mount --pid --fork --kill-child --ipc --uts bash -euc '
  root=$1; shift
  mount --make-rprivate /
  mount -t proc proc "$root/proc"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mkdir -p "$root/dev/shm"
  for device in null zero full random urandom tty; do
    [ -e "$root/dev/$device" ] || touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  exec chroot --userspec newcomer:newcomer "$root" "$@"
' - "$run" /usr/bin/env -i HOME=$home PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 \
  "${lent[@]}" bash "$home/lines.sh" "$@" &
machine=$!
interrupted() {
  # With the first process of the machine all others of it end.
  kill -KILL $(cat "/proc/$machine/task/$machine/children") 2>/dev/null || true
  wait "$machine" 2>/dev/null || true
  say "interrupted"
  exit 130
}
trap interrupted INT TERM
wait "$machine"
say "done"
