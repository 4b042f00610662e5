# shellcheck shell=bash
# Makes the toolbox: a private Debian root with Bazel, verified by the archive keyring, complete or absent.

toolbox_suite=forky
toolbox_bazel_version=$(cat "$workspace/.bazelversion")

# Make the toolbox unless it is there. Two at once wait for each other; an interrupted one starts over.
toolbox_ensure() {
  [ "${MFBAZEL_IN_TOOLBOX:-0}" = 0 ] || return 0
  local dir home lock
  dir=$(toolbox_dir)
  if [ ! -e "$dir/complete" ]; then
    require_host
    home=$(toolbox_home)
    mkdir -p "$home"
    exec {lock}>"$home/lock"
    if ! flock --nonblock "$lock"; then
      say "another process is setting up the toolbox in $home; waiting for it"
      flock "$lock"
    fi
    [ -e "$dir/complete" ] || toolbox_make "$dir"
    exec {lock}>&-
  fi
  command -v bwrap >/dev/null || install_host_packages bubblewrap
}

# Refuse a host on which the toolbox can't be made, before anything is downloaded.
require_host() {
  local machine
  machine=$(uname -m)
  if ! { [ "$(uname -s)" = Linux ] && [ "$machine" = x86_64 ] && command -v apt-get >/dev/null; }; then
    die "neither bazelisk nor bazel is on PATH, and the toolbox, which would bring Bazel $toolbox_bazel_version, needs a Debian-like system on x86-64 (this is $(uname -s) on $machine).
  Install bazelisk (https://github.com/bazelbuild/bazelisk) and run this command again."
  fi
  [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] || install_host_packages debian-archive-keyring
}

# install_host_packages PACKAGE…: with apt as root, said aloud; otherwise the command to type.
install_host_packages() {
  local command="apt-get install --yes --no-install-recommends $*"
  [ "$(id -u)" = 0 ] || die "the toolbox needs $* on this machine, and only root can install packages. Type this, then run the command again:
  sudo $command"
  say "installing with apt: $*"
  { DEBIAN_FRONTEND=noninteractive $command || { apt-get update && DEBIAN_FRONTEND=noninteractive $command; }; } >&2 ||
    die "apt could not install $*; its message is above. Install them by hand and run this command again."
}

require_tools() {
  local missing=()
  command -v bwrap >/dev/null || missing+=(bubblewrap)
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  [ "$(id -u)" = 0 ] || command -v newuidmap >/dev/null || missing+=(uidmap)
  [ ${#missing[@]} = 0 ] || install_host_packages "${missing[@]}"
}

# The Debian mirror that this host's apt uses: the first whose address ends in /debian.
apt_mirror() {
  if [ -n "${MFBAZEL_TOOLBOX_MIRROR:-}" ]; then
    printf '%s\n' "$MFBAZEL_TOOLBOX_MIRROR"
    return
  fi
  local files=()
  mapfile -t files < <(find /etc/apt -maxdepth 2 \( -name '*.sources' -o -name '*.list' \) | sort)
  [ ${#files[@]} -gt 0 ] || return 0
  sed -nE -e 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p' -e 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' "${files[@]}" |
    { grep -E '/debian/?$' || :; } | head -n 1
}

# What apt on the host knows about reaching its mirrors: proxies, retries, certificates.
apt_network_options() {
  apt-config dump | grep -E '^Acquire::(http|https|Retries|Check-|ForceIPv)' | grep -v '""' || :
}

# toolbox_make DIRECTORY: called with the lock held.
toolbox_make() {
  local dir=$1 home mirror work started=$SECONDS
  home=$(dirname "$dir")
  require_tools
  mirror=$(apt_mirror)
  [ -n "$mirror" ] || die "no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d. Name one in MFBAZEL_TOOLBOX_MIRROR (the archive's base address, as in apt's URIs) or install bazelisk."
  remove_trees "$home"/making.*
  work=$(mktemp -d "$home/making.XXXXXX")
  chmod 0755 "$work"
  say "setting up the toolbox once: Debian $toolbox_suite with Bazel $toolbox_bazel_version, in $dir (about two minutes, 2 GB)"
  if ! make_root "$mirror" "$work"; then
    tail -n 25 "$work/setup.log" >&2
    remove_trees "$work"
    die "the toolbox could not be made; the reason is above. Nothing was left behind; run the command again to start over."
  fi
  # It switches debugging output on, and overrides modules that a workspace may not have.
  : >"$work/root/etc/bazel/bazelrc"
  check_versions "$work" || { remove_trees "$work"; exit 1; }
  : >"$work/complete"
  mv -T "$work" "$dir"
  say "the toolbox is ready after $(in_words $((SECONDS - started)))"
}

# make_root MIRROR WORK: the Debian root in WORK/root, the base image's packages in its /usr/share/mfbazel/base.
make_root() {
  local mirror=$1 work=$2 mode=root
  [ "$(id -u)" = 0 ] || mode=unshare
  apt_network_options >"$work/apt.conf"
  # As root mmdebstrap fills the directory itself. An ordinary user unpacks its archive, so that every file belongs to him and can be removed
  # by him.
  local target=$work/root
  [ $mode = root ] || target=-
  {
    mmdebstrap --mode=$mode --variant=apt --architectures=amd64 --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
      --format="$([ $mode = root ] && echo directory || echo tar)" \
      --aptopt="$work/apt.conf" --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
      --dpkgopt='path-exclude=/usr/share/locale/*' \
      --include="$(list_of "$toolbox_sources/packages.txt" | paste -sd,)" \
      --setup-hook="$(host_certificates_hook)" \
      --customize-hook="$(base_packages_hook)" \
      "$toolbox_suite" "$target" "deb $mirror $toolbox_suite main"
  } 2> >(tee "$work/setup.log" | show_stages) | if [ $mode = root ]; then cat >&2; else
    mkdir "$work/root" && tar -x --exclude='./dev/*' --no-same-owner -C "$work/root"
  fi
}

# Of mmdebstrap's hundreds of lines, those that say how far it is.
show_stages() { sed -u -nE 's/^I: (running apt|downloading|extracting|installing|cleaning)/mfbazel:   \1/p' >&2; }

# The certificate authorities that the host was given, so that Java's and OpenSSL's stores in the toolbox hold them too.
host_certificates_hook() {
  # shellcheck disable=SC2016
  printf '%s' 'mkdir -p "$1/usr/local/share/ca-certificates"; find /usr/local/share/ca-certificates -name "*.crt" -exec cp -L {} "$1/usr/local/share/ca-certificates/" \; 2>/dev/null || true'
}

# The .deb files of the base image: apt computes the closure against an empty system, and takes the versions that the toolbox has.
base_packages_hook() {
  # shellcheck disable=SC2016
  printf '%s' 'set -e; store=/usr/share/mfbazel/base; mkdir -p "$1$store/partial"; chroot "$1" apt-get --option Dir::State::status=/dev/null --option Dir::Cache::archives=$store --option APT::Sandbox::User=root --no-install-recommends --download-only --yes --quiet install '"$(list_of "$toolbox_sources/base-packages.txt" | paste -sd' ')"'; rm -rf "$1$store/partial" "$1$store/lock"'
}

# Record what was installed, and refuse a Bazel that the rules were not made for.
check_versions() {
  local work=$1 bazel
  # shellcheck disable=SC2016
  dpkg-query --admindir="$work/root/var/lib/dpkg" -W -f '${Package} ${Version} ${Architecture}\n' >"$work/versions.txt"
  (cd "$work/root/usr/share/mfbazel/base" && sha256sum -- *.deb) >"$work/base.sha256"
  bazel=$(sed -n 's/^bazel-bootstrap \([0-9.]*\).*/\1/p' "$work/versions.txt")
  if [ "$bazel" != "$toolbox_bazel_version" ]; then
    printf 'error: the mirror has Bazel %s, and this workspace needs %s (.bazelversion). Install bazelisk, which fetches the right one.\n' "$bazel" "$toolbox_bazel_version" >&2
    return 1
  fi
}

# Remove directory trees, also those with read-only directories.
remove_trees() {
  local tree
  for tree in "$@"; do
    [ -e "$tree" ] || continue
    chmod -R u+w "$tree" 2>/dev/null || :
    rm -rf -- "$tree"
  done
}
