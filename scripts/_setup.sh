# Sourced by the scripts beside it: finds a Python and makes the project's .venv. Plain POSIX sh.
#
#   . "$(dirname -- "$0")/_setup.sh"    sets $root, the project's folder, and does not change the folder one is in
#   set_up run|dev                      makes .venv with the pinned packages, or ends with one sentence

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1
export MESSAGEU_ROOT="$root"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

_is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the Python to use: $PYTHON when it is set, else the first on the PATH that is new enough.
_find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if _is_new_enough "$PYTHON"; then
            printf '%s\n' "$PYTHON"
            return 0
        fi
        echo "PYTHON is set to '$PYTHON', which is no Python 3.11 or newer." >&2
        return 1
    fi
    for _candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if _is_new_enough "$_candidate"; then
            printf '%s\n' "$_candidate"
            return 0
        fi
    done
    echo "MessageU needs Python 3.11 or newer, and none is on the PATH; install one, or set PYTHON to it." >&2
    return 1
}

set_up() {
    _python=$(_find_python) || exit 1
    "$_python" -P -B "$root/scripts/_setup.py" "$1" || exit $?
}
