# SPDX-License-Identifier: Apache-2.0
"""CRIU does not dump everywhere, so a script in runc's place plays its part: the state of a container is a file, restoring it starts the
container anew when the file is there, and everything else is handed to runc.

Beside the script: `calls` is what was asked of it, `restored` the state that came back; it fails while there is a file `refuse`."""

SCRIPT = """#!/bin/sh
image= work= leave= bundle= pid= globals= all="$*"
while [ $# -gt 0 ]; do
    case "$1" in
    --root|--log|--log-format) globals="$globals $1 $2"; shift 2 ;;
    --systemd-cgroup) globals="$globals $1"; shift ;;
    *) break ;;
    esac
done
sub=$1
case "$sub" in checkpoint|restore) ;; *) exec runc $globals "$@" ;; esac
shift
while [ $# -gt 1 ]; do
    case "$1" in
    --image-path) image=$2; shift 2 ;;
    --work-path) work=$2; shift 2 ;;
    --bundle) bundle=$2; shift 2 ;;
    --pid-file) pid=$2; shift 2 ;;
    --leave-running) leave=1; shift ;;
    *) shift ;;
    esac
done
echo "$all" >> @DIR@/calls
[ ! -e @DIR@/refuse ] || { echo "no $sub today" >&2; exit 1; }
if [ $sub = checkpoint ]; then
    mkdir -p "$image/sub" "$work" && echo "frozen $1" > "$image/state" && echo deep > "$image/sub/file" || exit 1
    echo log > "$work/dump.log" && echo stats > "$work/stats-dump" || exit 1
    [ -n "$leave" ] || runc $globals kill "$1" 9
else
    grep -q frozen "$image/state" && grep -q deep "$image/sub/file" || exit 1
    cp "$image/state" @DIR@/restored
    exec runc $globals run --detach --pid-file "$pid" --bundle "$bundle" "$1"
fi
"""


def write(directory):
    """The script in this directory, and a `criu` for who looks whether there is one."""
    for name, text in (("runc-with-state", SCRIPT), ("criu", "#!/bin/sh\n")):
        (directory / name).write_text(text.replace("@DIR@", str(directory)))
        (directory / name).chmod(0o755)
    return directory / "runc-with-state"
