/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of pods: namespaces, and CNI plugins over cni/.
 *
 * The configuration directories are watched (inotify on the loop) and loaded anew when they change;
 * a pod keeps the configuration that it was set up with, from CNI's cache of results. Any thread.
 */
#pragma once

#include "cri/internal.h"

int cri_network_new(struct cri *c, struct cri_network **ret, struct err *err) _must_check_;
/* Once nothing can fail any more: from now on the loop knows of it, which ends before it. */
void cri_network_watch(struct cri_network *n);
void cri_network_free(struct cri_network *n);

/* 0 when networks of this handler ("" = the default) can be set up, else why not. */
int cri_network_ready(struct ctx *ctx, struct cri_network *n, const char *handler,
		      struct err *err) _must_check_;
/* Status, for verbose answers: the loaded configuration as JSON and the last error of loading. */
int cri_network_info(struct ctx *ctx, struct cri_network *n, const char *handler, json_t **ret,
		     struct err *err) _must_check_;
/* How each directory of configuration was loaded last, "OK" or why not, by the name of its handler;
 * "default" for those that have none. In @a. */
int cri_network_load_status(struct arena *a, struct cri_network *n, struct labels *ret,
			    struct err *err) _must_check_;
/* UpdateRuntimeConfig: writes the configuration from conf_template. */
int cri_network_set_pod_cidr(struct ctx *ctx, struct cri_network *n, const char *cidrs,
			     struct err *err) _must_check_;

/* A path that no network namespace has yet, in /var/run/netns or below the state directory; in
 * @a. */
int cri_netns_path(struct cri *c, struct arena *a, char **ret, struct err *err) _must_check_;
/* A network namespace bind mounted at such a path: a new one, or the one of @netns_fd when not
 * -1. */
int cri_netns_new(struct arena *a, const char *path, int netns_fd, struct err *err) _must_check_;
/* Unmounts and removes; absent is fine. */
int cri_netns_remove(const char *path, struct err *err) _must_check_;
bool cri_netns_exists(const char *path);
/* At the end of the daemon: the directory below the state directory is no mount of its own any
 * more, unless namespaces are in it. */
void cri_netns_done(struct cri *c);
/* Brings up "lo" without a plugin. */
int cri_netns_loopback(const char *path, struct err *err) _must_check_;

/* Loopback and the pod's networks; fills ip, additional_ips, cni_result of the pod (under its
 * lock). After a failure nothing is left set up. */
int cri_network_setup(struct ctx *ctx, struct cri *c, struct cri_pod *p,
		      struct err *err) _must_check_;
int cri_network_teardown(struct ctx *ctx, struct cri *c, struct cri_pod *p,
			 struct err *err) _must_check_;
