# shellcheck shell=bash
# Makes the toolbox: a private Debian root with Bazel, verified by the archive keyring, complete or absent.

toolbox_suite=forky
toolbox_bazel_version=$(cat "$workspace/.bazelversion")

# Make the toolbox unless it is there. Two at once wait for each other; an interrupted one starts over.
toolbox_ensure() {
  [ "${MFBAZEL_IN_TOOLBOX:-0}" = 0 ] || return 0
  local dir lock
  dir=$(toolbox_dir)
  if [ ! -e "$dir/complete" ]; then
    require_host
    lock_toolboxes
    [ -e "$dir/complete" ] || toolbox_make "$dir"
    exec {lock}>&-
  fi
  command -v bwrap >/dev/null || install_host_packages bubblewrap
}

# Wait for the lock over all toolboxes of this user, and hold it in the caller's variable `lock`. What a killed process started keeps holding it
# until it has ended too.
lock_toolboxes() {
  local home
  home=$(toolbox_home)
  while :; do
    mkdir -p "$home" || die "the toolbox cannot be kept in $home; name another directory in MFBAZEL_TOOLBOX_DIR."
    exec {lock}>"$home/lock"
    if ! flock --nonblock "$lock"; then
      say "another process is setting up the toolbox in $home; waiting for it"
      flock "$lock"
    fi
    # Removing the toolbox removes the file: whoever waited for that one waits for the next.
    [ "$home/lock" -ef "/proc/$BASHPID/fd/$lock" ] && return
    exec {lock}>&-
  done
}

# Refuse a host on which the toolbox can't be made, before anything is downloaded.
require_host() {
  local machine
  machine=$(uname -m)
  if ! { [ "$(uname -s)" = Linux ] && [ "$machine" = x86_64 ] && command -v apt-get >/dev/null; }; then
    die "the toolbox, which brings Bazel $toolbox_bazel_version where neither bazelisk nor bazel is on PATH, needs a Debian-like system on x86-64 (this is $(uname -s) on $machine, $(command -v apt-get >/dev/null && echo with || echo without) apt-get).
  Install bazelisk (https://github.com/bazelbuild/bazelisk) and run this command again."
  fi
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

toolbox_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

require_tools() {
  local missing=()
  command -v bwrap >/dev/null || missing+=(bubblewrap)
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  [ "$(id -u)" = 0 ] || command -v newuidmap >/dev/null || missing+=(uidmap)
  [ -r "$toolbox_keyring" ] || missing+=(debian-archive-keyring)
  [ ${#missing[@]} = 0 ] || install_host_packages "${missing[@]}"
  [ "$(id -u)" = 0 ] || require_user_namespaces
}

# What an ordinary user needs to be root of a private Debian.
require_user_namespaces() {
  local user
  user=$(id -un)
  unshare --user true 2>/dev/null || die "this machine allows no user namespaces to ordinary users, which the toolbox needs. Run this command as root, install bazelisk, or allow them:
  sudo sysctl -w kernel.unprivileged_userns_clone=1"
  { grep -q "^$user:" /etc/subuid && grep -q "^$user:" /etc/subgid; } 2>/dev/null || die "the user $user has no subordinate user and group ids, which the toolbox needs. Type this (with a free range), then run the command again:
  sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user"
}

# apt_mirror [DIRECTORY]: the Debian mirror that this host's apt uses, the first whose address ends in /debian.
apt_mirror() {
  if [ -n "${MFBAZEL_TOOLBOX_MIRROR:-}" ]; then
    printf '%s\n' "$MFBAZEL_TOOLBOX_MIRROR"
    return
  fi
  local files=()
  mapfile -t files < <(find "${1:-/etc/apt}" -maxdepth 2 \( -name '*.sources' -o -name '*.list' \) | sort)
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
  local dir=$1 home mirror work made=1 interrupted=0 started=$SECONDS
  home=$(dirname "$dir")
  require_tools
  mirror=$(apt_mirror)
  [ -n "$mirror" ] || die "no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d. Name one in MFBAZEL_TOOLBOX_MIRROR (the archive's base address, as in apt's URIs) or install bazelisk."
  remove_unfinished "$home"
  work=$(mktemp -d "$home/making.XXXXXX")
  chmod 0755 "$work"
  say "setting up the toolbox once: Debian $toolbox_suite with Bazel $toolbox_bazel_version, in $dir (about two minutes, 2 GB)"
  # mmdebstrap cleans up after Ctrl-C, and is waited for.
  (
    trap : INT
    make_root "$mirror" "$work"
  ) &
  trap 'signalled=1 interrupted=1' INT
  outlive $! || made=0
  trap - INT
  if [ "$made" = 0 ]; then
    [ "$interrupted" = 1 ] || tail -n 25 "$work/setup.log" >&2
    remove_unfinished "$home"
    [ "$interrupted" = 0 ] || { say "interrupted; nothing was left behind"; exit 130; }
    die "the toolbox could not be made; the reason is above. Nothing was left behind; run the command again to start over."
  fi
  # It switches debugging output on, and overrides modules that a workspace may not have.
  : >"$work/root"/etc/bazel/bazelrc
  check_versions "$work" || { remove_unfinished "$home"; exit 1; }
  : >"$work/complete"
  remove_trees "$dir"
  mv -T "$work" "$dir"
  say "the toolbox is ready after $(in_words $((SECONDS - started)))"
}

# make_root MIRROR WORK: the Debian root in WORK/root, the base image's packages in its /usr/share/mfbazel/base/ARCHITECTURE.
make_root() {
  local mirror=$1 work=$2 options=() option namespace=()
  while read -r option; do options+=("--aptopt=$option"); done < <(apt_network_options)
  # As root mmdebstrap fills the directory itself. An ordinary user unpacks its archive, so that every file belongs to him and can be removed
  # by him; it fills a directory that his subordinate users can reach, which $HOME and $TMPDIR need not be.
  if [ "$(id -u)" = 0 ]; then
    # Its mounts of /proc, /sys and /dev must be nobody else's: those of an interrupted one would stay.
    namespace=(unshare --mount)
    options+=(--mode=root --format=directory)
    set -- "$work/root" cat
  else
    options+=(--mode=unshare --format=tar)
    set -- - unpack_root "$work/root"
    local -x TMPDIR
    TMPDIR=$(mktemp -d "$toolbox_scratch/mfbazel-toolbox.XXXXXX")
    chmod 0755 "$TMPDIR"
    printf '%s\n' "$TMPDIR" >"$work/scratch"
  fi
  {
    "${namespace[@]}" mmdebstrap "${options[@]}" --variant=apt --architectures=amd64 --keyring="$toolbox_keyring" \
      --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
      --dpkgopt='path-exclude=/usr/share/locale/*' \
      --include="$(list_of "$toolbox_sources/packages.txt" | paste -sd,)" \
      --setup-hook="$(host_certificates_hook)" \
      --customize-hook="$(base_packages_hook)" \
      "$toolbox_suite" "$1" "deb $mirror $toolbox_suite main" 2>&1 >&3 3>&- | tee "$work/setup.log" | show_stages
  } 3>&1 | "${@:2}" >&2 && remove_scratch "$work"
}

# Not below /tmp, which is memory on some machines.
toolbox_scratch=/var/tmp

unpack_root() { mkdir "$1" && tar -x --exclude='./dev/*' --no-same-owner -C "$1"; }

# remove_scratch WORK: what an interrupted mmdebstrap left belongs to the user's subordinate users, and only they can remove it.
remove_scratch() {
  local scratch
  [ -s "$1/scratch" ] || return 0
  read -r scratch <"$1/scratch"
  if [ -n "$(find "$scratch" -mindepth 1 -print -quit 2>/dev/null)" ]; then
    (cd / && mmdebstrap --unshare-helper find "$scratch" -mindepth 2 -delete) >/dev/null 2>&1 || :
  fi
  rm -rf -- "$scratch"
  rm -f "$1/scratch"
}

# remove_unfinished HOME: called with the lock held.
remove_unfinished() {
  local work
  for work in "$1"/making.*; do
    remove_scratch "$work"
    remove_trees "$work"
  done
}

# Of mmdebstrap's hundreds of lines, those that say how far it is.
show_stages() { sed -u -nE 's/^I: (running apt|downloading|extracting|installing|creating tarball|cleaning)/mfbazel:   \1/p' >&2; }

# The certificate authorities that the host was given, so that Java's and OpenSSL's stores in the toolbox hold them too.
host_certificates_hook() {
  # shellcheck disable=SC2016
  printf '%s' 'store=/usr/local/share/ca-certificates; [ ! -d "$store" ] || { mkdir -p "$1$store"; find "$store" -name "*.crt" -readable -exec cp -L {} "$1$store/" \; ; }'
}

# The .deb files of the base image, of each architecture: apt computes the closure against an empty system, and takes the versions of this day.
# A text and not a file: mmdebstrap's users may not reach the workspace.
base_packages_hook() {
  printf 'set -e\npackages="%s"\n' "$(list_of "$toolbox_sources/base-packages.txt" | paste -sd' ')"
  cat <<'HOOK'
root=$1
for architecture in amd64 arm64; do
  store=/usr/share/mfbazel/base/$architecture
  lists=/var/tmp/mfbazel-lists/$architecture
  mkdir -p "$root$store/partial" "$root$lists/partial"
  for command in update "install --no-install-recommends --download-only $packages"; do
    chroot "$root" apt-get --quiet --yes --option APT::Architecture=$architecture --option APT::Architectures=$architecture --option APT::Sandbox::User=root \
      --option Dir::State::status=/dev/null --option Dir::State::lists=$lists --option Dir::Cache::archives=$store --option Dir::Cache::pkgcache= --option Dir::Cache::srcpkgcache= $command
  done
  rm -rf "$root$store/partial" "$root$store/lock"
done
rm -rf "$root/var/tmp/mfbazel-lists"
HOOK
}

# Record what was installed, and refuse a Bazel that the rules were not made for.
check_versions() {
  local work=$1 bazel
  # shellcheck disable=SC2016
  dpkg-query --admindir="$work/root"/var/lib/dpkg -W -f '${Package} ${Version} ${Architecture}\n' >"$work/versions.txt"
  (cd "$work/root"/usr/share/mfbazel/base && sha256sum -- */*.deb) >"$work/base.sha256"
  bazel=$(sed -n 's/^bazel-bootstrap \([0-9.]*\).*/\1/p' "$work/versions.txt")
  if [ "$bazel" != "$toolbox_bazel_version" ]; then
    printf 'error: the mirror has Bazel %s, and this workspace needs %s (.bazelversion). Install bazelisk, which fetches the right one.\n' "$bazel" "$toolbox_bazel_version" >&2
    return 1
  fi
}

# What is mounted where.
toolbox_mounts=/proc/self/mountinfo

# Remove directory trees, also those with read-only directories; what says that one is complete goes first. Nothing is removed from a tree in which
# something is mounted: that would be removed from the machine.
remove_trees() {
  local tree
  for tree in "$@"; do
    [ -e "$tree" ] || continue
    if grep -qF -- " $(readlink -f "$tree" | sed 's/ /\\040/g')/" "$toolbox_mounts"; then
      die "something is mounted below $tree, which is to be removed; unmount it (see findmnt), then run the command again."
    fi
    rm -f -- "$tree/complete"
    find "$tree" -xdev -type d ! -perm -u=w -exec chmod u+w {} + 2>/dev/null || :
    rm -rf --one-file-system -- "$tree"
  done
}
