#!/bin/sh
# Prepares the virtual environments behind the Makefile.
#   tools/setup.sh run VENV PYTHON        what the application needs, as locked in locks/run.txt
#   tools/setup.sh test VENV PYTHON       after that, the tools of the tests, as locked in locks/test.txt
#   tools/setup.sh browser VENV PYTHON    after that, Chromium, unless it is on PATH
#   tools/setup.sh newest VENV PYTHON     the newest releases that requirements.txt and pyproject.toml admit
#   tools/setup.sh oldest VENV PYTHON     the oldest ones
#   tools/setup.sh lock VENV PYTHON       writes the files in locks/ anew
set -eu
cd "$(dirname "$0")/.."
purpose=$1 venv=$2 python=$3

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

install_system() { # Debian-like machines where we are root; fails anywhere else
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "Installing with apt-get: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@"; } >/dev/null 2>&1
}

check_python() {
    command -v "$python" >/dev/null || fail "There is no '$python' on this machine: name a Python with PYTHON=..."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "STTM Studio needs Python 3.10 or newer, and '$python' is $("$python" --version 2>&1): name another with PYTHON=..."
}

make_venv() {
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
    if "$python" -m venv --clear "$venv" >/dev/null; then return; fi
    if install_system python3-venv && "$python" -m venv --clear "$venv"; then return; fi
    fail "'$python -m venv' failed: install Python's venv module (Debian and Ubuntu: sudo apt-get install python3-venv)."
}

pip_setting() { # NAME: what pip is configured to use, from its environment variable or its files
    "$venv/bin/python" -m pip config get ":env:.$1" 2>/dev/null ||
        "$venv/bin/python" -m pip config get "global.$1" 2>/dev/null || true
}

configure_uv() { # uv reads none of pip's settings: hand over the index and the certificates
    index=$(pip_setting index-url)
    if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="$index"; fi
    certificates=$(pip_setting cert)
    if [ -n "$certificates" ] && [ -z "${SSL_CERT_FILE:-}" ]; then export SSL_CERT_FILE="$certificates"; fi
    export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-120}"
}

# uv downloads in parallel, which is several times faster than pip.
install_uv() {
    configure_uv
    "$venv/bin/python" -m pip install --quiet --require-hashes --only-binary :all: -r locks/uv.txt
}

uv_pip() { "$venv/bin/python" -m uv pip "$@"; }

# Bytecode is compiled here because a machine with PYTHONDONTWRITEBYTECODE set would otherwise pay for it at every
# start of the application.
uv_install() { uv_pip install --python "$venv/bin/python" --compile-bytecode "$@"; }

# PyTorch's own index has builds for one backend (cpu, cu130 ...) that the hashes of PyPI's can't cover: see the awk file.
install_backend() { # LOCK
    awk -f tools/other_torch.awk "$1" >"$venv/lock-for-this-torch.txt"
    uv_install -r "$venv/lock-for-this-torch.txt" ||
        fail "PyTorch for UV_TORCH_BACKEND=$UV_TORCH_BACKEND could not be installed: see the message above, or leave it unset."
}

install_locked() { # LOCK
    if [ -n "${UV_TORCH_BACKEND:-}" ] && install_uv; then install_backend "$1"; return; fi
    if install_uv && uv_install --require-hashes -r "$1"; then return; fi
    say "uv could not install the packages; pip tries now, which takes longer."
    "$venv/bin/python" -m pip install --require-hashes -r "$1" ||
        fail "The packages could not be installed: see the message above; is this machine connected to a package index?"
}

install_project() { # everything that it needs is there already
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
}

install_range() { # highest|lowest-direct
    install_uv && uv_pip install --python "$venv/bin/python" --upgrade --resolution "$1" -r pyproject.toml --extra test ||
        fail "The releases of the ranges could not be installed, so they were not tested: is this machine connected to a package index?"
}

compile_lock() { # OUT ARGUMENTS...: every supported Python and platform, the newest releases that the ranges admit
    out=$1; shift
    uv_pip compile --quiet --universal --python-version 3.10 --generate-hashes --upgrade --annotation-style line \
        --custom-compile-command "make lock" --no-emit-index-url --no-emit-find-links --output-file "$out" "$@" ||
        fail "$out could not be resolved: see the message above."
}

write_locks() { # the tests run on what the application runs on
    install_uv 2>/dev/null || "$venv/bin/python" -m pip install --quiet uv
    echo uv | compile_lock locks/uv.txt -
    compile_lock locks/run.txt requirements.txt
    compile_lock locks/test.txt pyproject.toml --extra test --constraint locks/run.txt
}

check_opencv() { # opencv-python needs two libraries that slim images lack
    if reason=$("$venv/bin/python" -c 'import cv2' 2>&1); then return; fi
    reason=$(printf '%s\n' "$reason" | tail -n 1)
    case $reason in *"shared object"*) ;; *) fail "OpenCV does not start: $reason." ;; esac
    if install_system libgl1 libglib2.0-0 && "$venv/bin/python" -c 'import cv2' 2>/dev/null; then return; fi
    fail "OpenCV does not start ($reason). Debian and Ubuntu: sudo apt-get install libgl1 libglib2.0-0. Fedora: sudo dnf install mesa-libGL glib2."
}

has_chromium() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null; then return; fi
    done
    return 1
}

check_browser() {
    if has_chromium; then return; fi
    with_libraries=
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then with_libraries=--with-deps; fi
    if "$venv/bin/python" -m playwright install $with_libraries chromium; then return; fi
    if install_system chromium && has_chromium; then return; fi
    fail "The browser tests need Chromium, and it could not be downloaded: install it so that 'chromium' is on PATH."
}

case $purpose in
    run) check_python; make_venv; install_locked locks/run.txt; check_opencv ;;
    test) install_locked locks/test.txt; install_project ;;
    browser) check_browser ;;
    newest) check_python; make_venv; install_range highest; check_opencv ;;
    oldest) check_python; make_venv; install_range lowest-direct; check_opencv ;;
    lock) check_python; make_venv; write_locks ;;
    *) fail "usage: tools/setup.sh run|test|browser|newest|oldest|lock VENV PYTHON" ;;
esac
