/* SPDX-License-Identifier: Apache-2.0 */
/* conf_template of the CNI configuration: text with actions in {{ }}, the part of Go's
 * text/template that such files use.
 *
 *     {{.PodCIDR}} {{range $i, $v := .PodCIDRRanges}}{{if $i}}, {{end}}"{{$v}}"{{end}} {{range
 * .Routes}}{{.}}{{end}}
 *
 * range and if, both with else; variables that range declares; "{{-" and "-}}" take the white space
 * before and after along. A list that is printed stands in brackets. */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define CNI_TEMPLATE_OUT_MAX (1u << 20)

struct cni_template_list {
	const char *const *v;
	size_t n;
};

struct cni_template_data {
	const char *pod_cidr;			 /* the first of the ranges */
	struct cni_template_list ranges, routes; /* .PodCIDRRanges, .Routes */
};

/* Appends to @out. -ERR_INVALID_ARGUMENT says which action is wrong. */
int cni_template_render(const char *text, const struct cni_template_data *data, struct buf *out,
			struct err *err) _must_check_;
