# shellcheck shell=bash
# What setup.sh and enter.sh share: where the toolbox is, and how it speaks.

say() { printf 'mfbazel: %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

toolbox_sources=$workspace/tools/toolbox

# The directory of all toolboxes of this user.
toolbox_home() {
  printf '%s\n' "${MFBAZEL_TOOLBOX_DIR:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/mfbazel/toolbox}"
}

# Count up when setup.sh makes a toolbox that differs otherwise than by its packages.
toolbox_format=1

# A toolbox is named after what it is made from: another package list makes another toolbox.
toolbox_key() {
  { echo "$toolbox_format"; cat "$toolbox_sources/packages.txt" "$toolbox_sources/base-packages.txt"; } | sha256sum | cut -c1-16
}

toolbox_dir() { printf '%s/%s\n' "$(toolbox_home)" "$(toolbox_key)"; }

# The lines of a list file without comments.
list_of() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -e 's/[[:space:]]*$//' "$1"; }

in_words() {
  if [ "$1" -ge 60 ]; then printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); else printf '%d s' "$1"; fi
}

# report_time COMMAND SECONDS SET_UP_SECONDS: one line at the end of what takes time.
report_time() {
  case $1 in build | test | run | coverage | fetch | sync) ;; *) return 0 ;; esac
  if [ "$3" -gt 0 ]; then
    say "$1 took $(in_words "$2"), of which setting up the toolbox $(in_words "$3")"
  else
    say "$1 took $(in_words "$2")"
  fi
}
