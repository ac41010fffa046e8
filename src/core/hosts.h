/* SPDX-License-Identifier: Apache-2.0 */
/* hosts.toml: which servers stand for a registry host, with which certificates and headers
 * (https://github.com/containerd/containerd/blob/main/docs/hosts.md). */
#pragma once

#include "core/worker.h"

struct hosts {
	struct fetch_host *v; /* tried in this order; the registry itself comes last */
	size_t n;
};

/* For @host ("docker.io", "10.0.0.1:5000") from the directories of @config_path (":"-separated, ""
 * = none), else only the registry itself.
 * @default_scheme "" = https, but http for loopback hosts (unless the port is 443). Results in
 * ctx's arena. A hosts.toml that cannot be read is an error that names file, line and key. */
int hosts_load(struct ctx *ctx, const char *config_path, const char *host,
	       const char *default_scheme, struct hosts *ret, struct err *err) _must_check_;

/* The parser alone: bytes of a hosts.toml, with the directory that relative certificate paths start
 * from (NULL = they are not read). */
int hosts_parse(struct arena *a, const char *p, size_t n, const char *dir, const char *host,
		const char *default_scheme, struct hosts *ret, struct err *err) _must_check_;
