# Sourced by tools/test and tools/demo: a virtual environment with streamcore in it, made once and brought up to date when the project's
# own files ask for it. Sets ROOT, VENV and PY. Nothing outside ROOT and VENV is written.
#
#   PYTHON  which interpreter makes the environment (default: python3)
#   VENV    where it lies (default: ROOT/.venv)

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1
VENV=${VENV:-$ROOT/.venv}
PY=$VENV/bin/python

fail() {
    printf '%s: %s\n' "$(basename -- "$0")" "$1" >&2
    exit 1
}

# check_python INTERPRETER: leaves with a message unless it is Python 3.10 or newer with venv.
check_python() {
    command -v -- "$1" >/dev/null 2>&1 || fail "no interpreter '$1'; install Python 3.10 or newer, or set PYTHON=/path/to/python3"
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || fail "'$1' does not run; set PYTHON=/path/to/python3"
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "found Python $version as '$1', expected 3.10 or newer; set PYTHON=/path/to/a/newer/python3"
    "$1" -c 'import ensurepip, venv' 2>/dev/null || fail "Python $version has no venv module; on Debian and Ubuntu: apt install python3-venv"
}

# stamp_of WHAT...: a text that changes when the environment has to be made anew or brought up to date.
stamp_of() {
    printf '%s\n' "$@" "$ROOT"
    "$PY" --version
    cat -- "$ROOT/setup.cfg" "$ROOT/pyproject.toml" "$ROOT/constraints.txt"
}

# usable: is there an environment that works, and of the version that PYTHON asks for?
usable() {
    [ -x "$PY" ] && "$PY" -c 'import pip, sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 || return 1
    [ -z "${PYTHON:-}" ] && return 0
    show='import sys; print(sys.version_info[:3])'
    [ "$("$PYTHON" -c "$show" 2>/dev/null)" = "$("$PY" -c "$show")" ]
}

# make_venv: a fresh environment in place of an unusable one; a directory that is no environment is left alone.
make_venv() {
    python=${PYTHON:-python3}
    check_python "$python"
    if [ -d "$VENV" ] && [ ! -f "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A -- "$VENV")" ]; then
        fail "$VENV exists and is no virtual environment; move it away or set VENV to another place"
    fi
    printf 'Making a virtual environment in %s\n' "$VENV" >&2
    "$python" -m venv --clear -- "$VENV" || fail "could not make $VENV"
}

# set_up EXTRA: make or update the environment so that streamcore[EXTRA] works in it, editable. EXTRA may be empty.
set_up() {
    extra=$1
    stamp=$VENV/streamcore-installed-${extra:-plain}
    usable || make_venv
    if [ -f "$stamp" ] && stamp_of "$extra" | cmp -s - "$stamp"; then
        return 0
    fi
    printf 'Installing streamcore and what it needs (about a minute)\n' >&2
    log=$VENV/streamcore-install.log
    if ! (cd -- "$ROOT" && STREAMCORE_NATIVE='' "$PY" -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
        --editable ".${extra:+[$extra]}") >"$log" 2>&1; then
        cat -- "$log" >&2
        fail "the installation failed; its output stands above"
    fi
    stamp_of "$extra" >"$stamp.new" && mv -- "$stamp.new" "$stamp"
}

# set_up_native: compile the inner loop for this environment unless that was done or STREAMCORE_NATIVE is 0. One line says what came of it,
# nothing if there was nothing to do. Status 1 if there is no compiled inner loop now: streamcore runs from its sources then.
set_up_native() {
    [ "${STREAMCORE_NATIVE:-}" != 0 ] || return 0
    "$PY" "$ROOT/tools/compile_native.py" --look
    case $? in
    0) return 0 ;;
    3) printf 'Compiling the inner loop (about a minute)\n' >&2 ;;
    *) return 1 ;;
    esac
    log=$VENV/streamcore-native.log
    if ! (cd -- "$ROOT" && STREAMCORE_NATIVE='' "$PY" -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
        --editable '.[native]') >"$log" 2>&1; then
        printf 'native: cannot be compiled: what it needs cannot be installed; see %s\n' "$log" >&2
        return 1
    fi
    "$PY" "$ROOT/tools/compile_native.py"
}
