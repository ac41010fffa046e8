#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: embed.sh FILE NAME: the bytes of FILE as a C array NAME.
set -eu
printf '/* Generated. */\nstatic const unsigned char %s[] = {\n' "$2"
od -An -v -tx1 "$1" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
printf '};\n'
