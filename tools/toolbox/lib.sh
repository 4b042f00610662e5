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
  local home=${MFBAZEL_TOOLBOX_DIR:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/mfbazel/toolbox}
  case $home in /*) ;; *) home=$PWD/$home ;; esac
  printf '%s\n' "${home%/}"
}

# Count up when setup.sh makes a toolbox that differs otherwise than by its packages.
toolbox_format=2

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

# bazel_command ARGUMENTS…: the position (from 0) and the name of Bazel's command, which startup options may precede.
bazel_command() {
  local argument position=0
  for argument; do
    case $argument in
      analyze-profile | aquery | build | canonicalize-flags | clean | config | coverage | cquery | dump | fetch | help | info | license | mobile-install | mod | print_action | query | run | shutdown | sync | test | vendor | version)
        echo "$position $argument"
        return
        ;;
    esac
    position=$((position + 1))
  done
}

# report_time COMMAND SECONDS SET_UP_SECONDS: one line at the end of what takes time.
report_time() {
  case $1 in build | test | run | coverage | fetch | sync | vendor) ;; *) return 0 ;; esac
  if [ "$3" -gt 0 ]; then
    say "$1 took $(in_words "$2"), of which setting up the toolbox $(in_words "$3")"
  else
    say "$1 took $(in_words "$2")"
  fi
}

# terminate PID COMMAND: bubblewrap dies of a signal without telling what runs inside, so that is told instead.
terminate() {
  local inner=
  [ "$2" != bwrap ] || read -r inner 2>/dev/null <"/proc/$1/task/$1/children" || :
  # shellcheck disable=SC2086
  kill -TERM ${inner:-$1} 2>/dev/null || :
}

# outlive PID: wait for a child and return its code. Traps that set `signalled` make it wait on.
outlive() {
  local signalled=0 code=0
  wait "$1" || code=$?
  [ "$signalled" = 1 ] || return "$code"
  while [ "$signalled" = 1 ]; do
    signalled=0 code=0
    wait "$1" 2>/dev/null || code=$?
  done
  # Of a child that ended in the instant of the signal, bash says 127 or -1: then the code is that of what SIGTERM ends.
  case $code in 127 | -1) code=143 ;; esac
  return "$code"
}

# run_to_its_end COMMAND…: lives until COMMAND has ended in its own way, and returns its code. Ctrl-C is COMMAND's affair, SIGTERM is passed on.
run_to_its_end() {
  local child status=0
  # bubblewrap ignores Ctrl-C, which is for what runs inside.
  (
    if [ "$1" = bwrap ]; then trap '' INT QUIT; else trap - INT QUIT; fi
    exec "$@"
  ) <&0 &
  child=$!
  trap '' INT QUIT
  # shellcheck disable=SC2064
  trap "signalled=1; terminate $child $1" TERM
  outlive "$child" || status=$?
  trap - INT QUIT TERM
  return "$status"
}
