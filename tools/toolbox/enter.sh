# shellcheck shell=bash
# Enters the toolbox with bubblewrap, and runs Bazel there or outside.

# The workspace that Bazel finds from here: another one than this may use the toolbox, and mfbazel with it.
project() {
  local directory=$PWD
  while [ "$directory" != / ]; do
    if [ -e "$directory/MODULE.bazel" ]; then
      readlink -f "$directory"
      return
    fi
    directory=$(dirname "$directory")
  done
  printf '%s\n' "$workspace"
}

# Modules that the toolbox brings: name and directory below its root.
toolbox_modules() {
  cat <<MODULES
aspect_bazel_lib $1/usr/share/bazel/tools/aspect_bazel_lib
bazel_features $1/usr/share/bazel/tools/features
bazel_lib $1/usr/share/bazel/tools/bazel_lib
bazel_skylib $1/usr/share/bazel/tools/skylib
platforms $1/usr/share/bazel/tools/platforms
rules_cc $1/usr/share/bazel/rules/cc
rules_java $1/usr/share/bazel/rules/java
rules_license $1/usr/share/bazel/rules/license
rules_pkg $1/usr/share/bazel/rules/pkg
rules_proto $1/usr/share/bazel/rules/proto
rules_python $1/usr/share/bazel/rules/python
rules_shell $1/usr/share/bazel/rules/shell
stardoc $1/usr/share/bazel/tools/stardoc
MODULES
  [ "$(project)" = "$workspace" ] || printf 'mfbazel %s\n' "$workspace"
  local module
  for module in "$toolbox_sources"/modules/*/; do
    printf '%s %s\n' "$(basename "$module")" "${module%/}"
  done
}

# The checkouts that the user named: MFBAZEL_MODULE_<name>=<directory>. A variable's name holds no dots; the module's own name may (tar.bzl, tar_bzl).
named_modules() {
  local variable directory name
  for variable in "${!MFBAZEL_MODULE_@}"; do
    directory=${!variable}
    [ -e "$directory/MODULE.bazel" ] || die "$variable names $directory, which has no MODULE.bazel; it must be the directory of a checkout of the module ${variable#MFBAZEL_MODULE_}."
    name=$(sed -e 's/#.*//' "$directory/MODULE.bazel" | tr '\n' ' ' | sed -nE 's/^(.*[^[:alnum:]_])?module\([^)]*name *= *"([^"]+)".*/\2/p')
    [ -n "$name" ] || name=${variable#MFBAZEL_MODULE_}
    [ "${name//[.-]/_}" = "${variable#MFBAZEL_MODULE_}" ] || die "$variable names $directory, which is a checkout of the module $name; set MFBAZEL_MODULE_${name//[.-]/_} instead."
    printf '%s %s\n' "$name" "$(cd "$directory" && pwd -P)"
  done
}

# module_dependencies FILE ROOT: the modules that a MODULE.bazel depends on; of development dependencies only the root's (ROOT = 1) count.
module_dependencies() {
  sed -e 's/^[[:space:]]*#.*//' "$1" | tr '\n' ' ' | { grep -oE 'bazel_dep\([^)]*\)' || :; } |
    if [ "$2" = 1 ]; then cat; else grep -vE 'dev_dependency *= *(True|IS_RELEASE)' || :; fi |
    sed -nE 's/.*[( ]name *= *"([^"]+)".*/\1/p'
}

# An override of a module that is not in the graph is an error to Bazel: keep those that the workspace and Bazel's own tools reach; say which are missing.
# Standard input and output: lines of name and directory; the first of a name wins. $1 is a prefix under which the directories are found.
reachable_modules() {
  local -A directory=() seen=()
  local name path file needed_by
  # The root module is not overridden.
  [ "$(project)" != "$workspace" ] || seen[mfbazel]=1
  while read -r name path; do
    [ -n "${directory[$name]:-}" ] || directory[$name]=$path
  done
  local queue=()
  mapfile -t queue < <({
    module_dependencies "$(project)/MODULE.bazel" 1
    module_dependencies "$1/usr/share/bazel/embedded_tools/MODULE.bazel" 0
  } | sed 's/$/ the workspace/')
  while [ ${#queue[@]} -gt 0 ]; do
    read -r name needed_by <<<"${queue[0]}"
    queue=("${queue[@]:1}")
    [ -z "${seen[$name]:-}" ] || continue
    seen[$name]=1
    path=${directory[$name]:-}
    if [ -z "$path" ]; then
      say "$needed_by needs the module $name, which the toolbox does not have; name a checkout of it: MFBAZEL_MODULE_${name//[.-]/_}=<directory>"
      continue
    fi
    printf '%s %s\n' "$name" "$path"
    # The host may have other modules at the same place.
    file=$1$path/MODULE.bazel
    [ -e "$file" ] || file=$path/MODULE.bazel
    mapfile -t -O "${#queue[@]}" queue < <(module_dependencies "$file" 0 | sed "s/\$/ $name/")
  done
}

# mended_bazel_lib DIR: where a copy of Debian's aspect_bazel_lib is that has the rule jq, which Debian took out and rules_oci needs, and that
# depends on the toolbox's tools for rules_oci. Its name changes with what is mended.
mended_bazel_lib() {
  local copy temporary
  copy=$1/modules/aspect_bazel_lib.$(declare -f mended_bazel_lib | sha256sum | cut -c1-8)
  if [ ! -e "$copy" ]; then
    mkdir -p "$1/modules"
    temporary=$(mktemp -d "$1/modules/making.XXXXXX")
    cp -R "$1/root"/usr/share/bazel/tools/aspect_bazel_lib/. "$temporary"
    sed -i 's|^_jq = None$|load("@jq.bzl//jq:jq.bzl", _jq = "jq")|' "$temporary/lib/jq.bzl"
    grep -q '"jq.bzl"' "$temporary/MODULE.bazel" || echo 'bazel_dep(name = "jq.bzl", version = "0.1.0")' >>"$temporary/MODULE.bazel"
    echo 'bazel_dep(name = "oci_tools", version = "0.0.1")' >>"$temporary/MODULE.bazel"
    # Of two at once one is kept; they are equal.
    mv -T "$temporary" "$copy" 2>/dev/null || rm -rf "$temporary"
  fi
  printf '%s\n' "$copy"
}

# available_modules DIR NAMED: the modules that the user named, then what the toolbox has; a checkout of rules_oci needs the mended aspect_bazel_lib.
available_modules() {
  [ -z "$2" ] || printf '%s\n' "$2"
  if grep -q '^rules_oci ' <<<"$2"; then printf 'aspect_bazel_lib %s\n' "$(mended_bazel_lib "$1")"; fi
  toolbox_modules ""
}

override_lines() { sort | sed -E 's/^([^ ]+) (.*)$/common "--override_module=\1=\2"/'; }

# write_if_changed FILE: standard input, written beside and renamed.
write_if_changed() {
  local temporary
  temporary=$(mktemp "$1.XXXXXX")
  cat >"$temporary"
  if cmp -s "$temporary" "$1"; then rm -f "$temporary"; else mv -f "$temporary" "$1"; fi
}

toolbox_bazelrc() {
  local dir=$1 named modules rc
  # The callers look at the status: a failure does not end the shell by itself.
  named=$(named_modules) || return
  modules=$(available_modules "$dir" "$named" | reachable_modules "$dir/root") || return
  rc=$dir/bazelrc.$({ printf '%s\n' "$workspace" "$(project)" "$named"; } | sha256sum | cut -c1-12)
  mkdir -p "$dir/registry"
  [ -e "$dir/registry/bazel_registry.json" ] || echo '{}' >"$dir/registry/bazel_registry.json"
  {
    # What Debian's system file says, which setup.sh empties.
    echo "startup --install_base=/usr/share/bazel --trust_install_base"
    # A server that runs from another toolbox is not asked: it starts anew when its options change.
    echo "startup --host_jvm_args=-Dmfbazel.toolbox=$(basename "$dir")"
    echo "common --registry=file://${dir// /%20}/registry"
    echo "common --noenable_workspace --lockfile_mode=off"
    echo "common --repo_env=MFBAZEL_BASE_PACKAGES=/usr/share/mfbazel/base"
    override_lines <<<"$modules"
    # Before those that rules_oci registers, which are downloaded. Bazel 7 calls the repository of a module so.
    if grep -q '^oci_tools ' <<<"$modules"; then echo "common --extra_toolchains=@@oci_tools~//:all"; fi
  } | write_if_changed "$rc"
  printf '%s\n' "$rc"
}

# toolbox_enter COMMAND…: with the host's directories of users and data, its network configuration and certificates.
toolbox_enter() {
  if [ "${MFBAZEL_IN_TOOLBOX:-0}" = 1 ]; then
    run_to_its_end "$@"
    return
  fi
  local root arguments visible=(/dev /proc /sys /tmp /var/tmp)
  root=$(toolbox_dir)/root
  arguments=(--die-with-parent --ro-bind "$root" / --dev-bind /dev /dev --bind /proc /proc --bind /sys /sys --tmpfs /run --bind /tmp /tmp --bind /var/tmp /var/tmp)
  arguments+=(--setenv PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --setenv LC_ALL C.UTF-8 --setenv MFBAZEL_IN_TOOLBOX 1)
  show_top_directories
  show_configuration
  show_places
  # Root's tests start containers, which make control groups and mounts.
  [ "$(id -u)" != 0 ] || arguments+=(--cap-add ALL)
  run_to_its_end bwrap "${arguments[@]}" --chdir "$(pwd -P)" -- env --default-signal=INT,QUIT "$@"
}

# The functions show_… add to toolbox_enter's `arguments`, and to `visible` what they bound.

show_top_directories() {
  local entry
  for entry in /*; do
    case $entry in /bin | /boot | /dev | /etc | /lib* | /lost+found | /proc | /run | /sbin | /sys | /tmp | /usr | /var) continue ;; esac
    [ -d "$entry" ] && [ ! -L "$entry" ] || continue
    mkdir -p "$root$entry"
    arguments+=(--bind "$entry" "$entry")
    visible+=("$entry")
  done
}

show_configuration() {
  local entry
  for entry in /etc/resolv.conf /etc/hosts /etc/passwd /etc/group /etc/pip.conf /etc/xdg/pip /etc/uv /etc/xdg/uv /etc/ssl/certs/ca-certificates.crt; do
    [ -e "$entry" ] || continue
    make_mount_point "$entry"
    arguments+=(--ro-bind "$(readlink -f "$entry")" "$entry")
    visible+=("$entry")
  done
}

# The workspace and what variables name, wherever it lies: below /var/lib, /usr/local/src, /run/user, behind a symbolic link.
show_places() {
  local name place
  show "$workspace" || die "the workspace $workspace lies where the toolbox has files of its own; move it to another directory."
  show "$(project)" || :
  while read -r name place; do
    show "$place" || :
  done < <(named_modules)
  for name in PWD HOME TMPDIR XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME XDG_RUNTIME_DIR MFBAZEL_STATE_DIR MFBAZEL_IMAGES \
    PIP_CONFIG_FILE UV_CONFIG_FILE PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE; do
    place=${!name:-}
    case $place in
      /*)
        show "$(readlink -f "$place")" || :
        show "$place" || :
        ;;
    esac
  done
  show "$(toolbox_home)" || :
}

# show PATH: fails where it would hide files of the toolbox.
show() {
  local place
  [ -e "$1" ] || return 0
  for place in "${visible[@]}"; do
    case $1/ in "$place"/*) return 0 ;; esac
  done
  case $1 in
    /var/* | /run/*) ;;
    *) [ ! -e "$root$1" ] || [ -z "$(find "$root$1" \( -type f -size +0 -o -type l \) -print -quit)" ] || return 1 ;;
  esac
  make_mount_point "$1"
  arguments+=(--bind "$1" "$1")
  visible+=("$1")
}

make_mount_point() {
  [ ! -e "$root$1" ] || return 0
  if [ -d "$1" ]; then
    mkdir -p "$root$1"
  else
    mkdir -p "$(dirname "$root$1")"
    : >"$root$1"
  fi
}

toolbox_bazel() {
  local rc
  rc=$(toolbox_bazelrc "$(toolbox_dir)") || return
  toolbox_enter bazel --bazelrc="$rc" "$@"
}

# run_installed_bazel BAZEL ARGUMENTS…: with the checkouts that the user named, for the commands that read modules.
run_installed_bazel() {
  local bazel=$1 overrides=() named line position=0 command=
  shift
  named=$(named_modules) || return
  while read -r line; do
    [ -z "$line" ] || overrides+=("--override_module=${line/ /=}")
  done <<<"$named"
  read -r position command < <(bazel_command "$@") || :
  case $command in "" | analyze-profile | dump | help | license | shutdown | version) overrides=() ;; esac
  if [ ${#overrides[@]} = 0 ]; then
    run_to_its_end "$bazel" "$@"
  else
    run_to_its_end "$bazel" "${@:1:position+1}" "${overrides[@]}" "${@:position+2}"
  fi
}

toolbox_usage() {
  cat <<'USAGE'
usage: ./bazelw toolbox --status | --shell [command…] | --remove | --help

The toolbox is a private Debian root with Bazel, used where neither bazelisk nor bazel is installed or MFBAZEL_TOOLBOX=1.

  --status            where it is, how large, and which versions it has
  --shell [command…]  a shell (or one command) inside
  --remove            remove it, and stop the Bazel servers that run from it

variables:
  MFBAZEL_TOOLBOX=1              use the toolbox even where Bazel is installed
  MFBAZEL_TOOLBOX_DIR            where toolboxes are kept (default: mfbazel/toolbox in the user's cache directory)
  MFBAZEL_TOOLBOX_MIRROR         the Debian mirror (default: the one that apt on this host uses)
  MFBAZEL_MODULE_<name>=<dir>    use this checkout of a Bazel module (dots and hyphens of its name as underscores)
USAGE
}

toolbox_status() {
  local dir
  dir=$(toolbox_dir)
  if [ ! -e "$dir/complete" ]; then
    echo "no toolbox for this workspace yet; the next ./bazelw command makes it in $dir"
    return
  fi
  echo "directory  $dir"
  echo "size       $(du -sh "$dir" 2>/dev/null | cut -f1)"
  echo "made       $(date -r "$dir/complete" '+%Y-%m-%d %H:%M')"
  echo "versions   $(wc -l <"$dir/versions.txt") packages, listed in $dir/versions.txt"
  grep -E '^(bazel-|crane|podman|runc|python3\.)' "$dir/versions.txt" | awk '{ printf "           %s %s\n", $1, $2 }'
}

# stop_servers TOOLBOX PROCESS…: of these directories of /proc, stop the Bazel servers that run from a toolbox, which would go on with removed files.
# The count of tenths of a second is their time to end.
stop_servers() {
  local toolbox=$1 process servers=() tenths=100
  shift
  for process; do
    [ "$process/root" -ef "$toolbox/root" ] || continue
    case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") in bazel\(*) servers+=("${process#/proc/}") ;; esac
  done
  [ ${#servers[@]} -gt 0 ] || return 0
  kill "${servers[@]}" 2>/dev/null || :
  while kill -0 "${servers[@]}" 2>/dev/null && [ $((tenths -= 1)) -gt 0 ]; do sleep 0.1; done
}

# Only what set-up makes is removed: MFBAZEL_TOOLBOX_DIR may hold other things.
toolbox_remove() {
  local home lock dir
  home=$(toolbox_home)
  [ -e "$home/lock" ] || { echo "there is no toolbox in $home"; return; }
  lock_toolboxes
  for dir in "$home"/*; do
    [[ ${dir##*/} =~ ^[0-9a-f]{16}$ && -d $dir/root ]] || continue
    stop_servers "$dir" /proc/[0-9]*
    remove_trees "$dir"
  done
  remove_unfinished "$home"
  rm -f "$home/lock"
  rmdir "$home" 2>/dev/null || :
  case $home in */mfbazel/toolbox) rmdir "${home%/toolbox}" 2>/dev/null || : ;; esac
  echo "removed the toolboxes in $home"
}

toolbox_command() {
  case "${1:---help}" in
    --status) toolbox_status ;;
    --remove) toolbox_remove ;;
    --shell)
      shift
      toolbox_ensure
      if [ $# = 0 ]; then toolbox_enter bash -i; else toolbox_enter "$@"; fi
      ;;
    --help | -h) toolbox_usage ;;
    *)
      printf 'error: unknown option %s\n' "$1" >&2
      toolbox_usage >&2
      exit 2
      ;;
  esac
}
