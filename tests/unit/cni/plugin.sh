#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A CNI plugin for the tests: notes what it was asked in $CNI_TEST_LOG, one line a run, and answers
# as its configuration's "mode" says.
conf=$(cat)
name=${0##*/}
printf '%s %s id=%s ns=%s if=%s args=%s %s\n' "$name" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" \
	"$CNI_ARGS" "$conf" >>"$CNI_TEST_LOG"
case $conf in
*'"mode":"fail"'*)
	echo '{"cniVersion":"1.0.0","code":7,"msg":"no such bridge","details":"br9"}'
	exit 1
	;;
*'"mode":"later"'*)
	echo '{"cniVersion":"1.0.0","code":11,"msg":"lease is held"}'
	exit 1
	;;
*'"mode":"fail-del"'*)
	[ "$CNI_COMMAND" = DEL ] && { echo "cannot tidy up" >&2; exit 3; }
	;;
*'"mode":"gone-del"'*)
	[ "$CNI_COMMAND" = DEL ] && { echo '{"code":100,"msg":"Link not found"}'; exit 1; }
	;;
*'"mode":"silent"'*) exit 5 ;;
*'"mode":"empty"'*) exit 0 ;;
*'"mode":"hang"'*) sleep 1000 ;;
*'"mode":"stay"'*)
	echo $$ >"$CNI_TEST_LOG.new" && mv "$CNI_TEST_LOG.new" "$CNI_TEST_LOG.pid"
	exec sleep 1000
	;;
*'"mode":"flood"'*) head -c 3000000 /dev/zero | tr '\0' x; exit 0 ;;
*'"mode":"old"'*)
	[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1"}}'
	exit 0
	;;
*'"mode":"bad-address"'*)
	[ "$CNI_COMMAND" = ADD ] && echo '{"ips":[{"address":"10.1.2.3"}]}'
	exit 0
	;;
esac
[ "$CNI_COMMAND" = ADD ] && printf '{"interfaces":[{"name":"%s","sandbox":"%s"}],"ips":[{"address":"10.0.0.2/8","interface":0}]}' \
	"$CNI_IFNAME" "$CNI_NETNS"
exit 0
