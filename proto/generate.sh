#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: generate.sh PROTOC-C PROTO-DIR OUT-DIR FILE...
# Writes the C of each FILE (and of the well-known types) below OUT-DIR, protos.c, which is all of it as lean.awk leaves it, and
# protos.h, which includes all headers.
set -eu
protoc=$1 src=$2 out=$3
shift 3
wkt=
for d in /usr/include /usr/local/include; do
	[ -f $d/google/protobuf/any.proto ] && wkt=$d && break
done
[ -n "$wkt" ] || { echo "google/protobuf/any.proto not found (libprotobuf-dev)" >&2; exit 1; }
known="any timestamp duration empty field_mask struct"
list=
for k in $known; do list="$list $wkt/google/protobuf/$k.proto"; done
src=$(cd "$src" && pwd -P)
rel=
for f in "$@"; do
	f=$(cd "$(dirname "$f")" && pwd -P)/$(basename "$f")
	rel="$rel ${f#"$src"/}"
done
# shellcheck disable=SC2086
"$protoc" -I"$src" -I"$wkt" --c_out="$out" $rel $list
(
	cd "$out"
	set --
	for f in $list $rel; do
		f=${f#"$wkt"/}
		set -- "$@" "${f%.proto}.pb-c.c"
	done
	LC_ALL=C awk -f "$src/lean.awk" "$@"
) >"$out/protos.c"
{
	echo '/* Generated. */'
	echo '#pragma once'
	echo '#include "message.h"'
	for k in $known; do echo "#include \"google/protobuf/$k.pb-c.h\""; done
	for f in $rel; do echo "#include \"${f%.proto}.pb-c.h\""; done
} >"$out/protos.h"
