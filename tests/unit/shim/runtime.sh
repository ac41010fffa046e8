#!/bin/sh
# Stands in for an OCI runtime: a container is a shell script of its bundle (init.sh), an exec another (exec.sh).
# Global options come first; the log's path is needed to fail as a runtime does.
while [ $# -gt 0 ]; do
	case $1 in
	--root | --log-format) shift 2 ;;
	--log) log=$2; shift 2 ;;
	*) break ;;
	esac
done
action=$1
shift
bundle=$(dirname "$log")
fail() {
	echo '{"level":"warning","msg":"never mind"}' >>"$log"
	echo "{\"level\":\"error\",\"msg\":\"$1\"}" >>"$log"
	exit 1
}
pid_file=
while [ $# -gt 0 ]; do
	case $1 in
	--pid-file) pid_file=$2; shift 2 ;;
	--bundle | --process | --console-socket | --format | --image-path | --work-path) shift 2 ;;
	--*) shift ;;
	*) break ;;
	esac
done
case $action in
create)
	[ -e "$bundle/fail" ] && fail "no luck"
	mkfifo "$bundle/go"
	# A background command would get /dev/null as its input.
	exec 3<&0
	sh -c 'read x <"$1/go"; exec sh "$1/init.sh"' init "$bundle" <&3 3<&- &
	printf %s $! >"$pid_file"
	;;
restore)
	exec 3<&0
	sh "$bundle/init.sh" <&3 3<&- >/dev/null &
	printf %s $! >"$pid_file"
	;;
start) echo go >"$bundle/go" ;;
exec)
	[ -e "$bundle/exec-fail" ] && fail "no such program"
	if [ -e "$bundle/exec-once" ]; then
		read x <"$bundle/exec-once"
		rm "$bundle/exec-once"
		fail "not yet"
	fi
	# Its parent goes at once, so that it is the shim's child from the beginning; it waits for that, or the parent might reap it.
	pid=$(sh -c 'while [ $PPID != "$2" ] && kill -0 $PPID 2>/dev/null; do :; done; exec sh "$1"' exec "$bundle/exec.sh" $PPID >/dev/null & echo $!)
	# The process may be over, and reaped, before its pid is known.
	[ -e "$bundle/late" ] && while kill -0 "$pid" 2>/dev/null; do :; done
	printf %s "$pid" >"$pid_file"
	;;
kill) kill -"$2" "$(cat "$bundle/init.pid")" 2>/dev/null || fail "container not running" ;;
ps) echo "[$(cat "$bundle/init.pid")]" ;;
pause) fail "cannot freeze" ;;
delete)
	[ -e "$bundle/slow" ] && read x <"$bundle/slow"
	# In this order: without the fifo it would go on as if it were started.
	kill -9 "$(cat "$bundle/init.pid")" 2>/dev/null
	rm -f "$bundle/go"
	exit 0
	;;
update) cat >"$bundle/resources" ;;
*) exit 2 ;;
esac
