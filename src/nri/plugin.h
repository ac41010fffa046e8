/* SPDX-License-Identifier: Apache-2.0 */
/* One plugin of the node resource interface: its connection, its registration, calls to it.
 *
 * A plugin is external (it has connected to the socket) or launched (a program started with one end
 * of a socket pair). It registers itself, which names it; a launched one is named by its file. When
 * its connection ends, or it does not answer in time, it is closed for good. Any thread, unless a
 * function says otherwise. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/ctx.h"
#include "event/loop.h"
#include "event/pool.h"
#include "protos.h"
#include "rpc/rpc.h"

#define NRI(m) Nri__Pkg__Api__V1alpha1__##m
#define NRI_INIT(m) NRI__PKG__API__V1ALPHA1__##m##__INIT
#define NRI_EVENT(m) NRI__PKG__API__V1ALPHA1__EVENT__##m
#define NRI_FIELD(m) NRI__PKG__API__V1ALPHA1__FIELD__##m

#define NRI_NAME_MAX 128

struct nri_plugin;

struct nri_plugin_options {
	struct loop *loop;
	struct pool *pool;
	int64_t request_timeout_ns, registration_timeout_ns;
	/* A call of UpdateContainers by a plugin that is synchronised; @ret's members in the call's
	 * arena. On a thread of the pool. */
	int (*update)(void *arg, struct nri_plugin *p, struct ctx *ctx,
		      const NRI(UpdateContainersRequest) * req, NRI(UpdateContainersResponse) * ret,
		      struct err *err);
	/* Once, on the loop, when nothing of the connection is left. May drop the last reference.
	 */
	void (*gone)(void *arg, struct nri_plugin *p);
	void *arg;
};

/* "NN-name" of a file or a registration: two digits and a name. */
bool nri_plugin_name_valid(const char *idx, const char *base);

/* On the connection @fd, which is taken over in any case. Launched: @file is "NN-name", @pidfd its
 * process (taken over in any case), @config its configuration; else NULL, -1, "". */
int nri_plugin_new(const struct nri_plugin_options *o, int fd, const char *file, int pidfd,
		   const char *config, struct nri_plugin **ret, struct err *err) _must_check_;
/* Starts the program @dir/@file. */
int nri_plugin_launch(const struct nri_plugin_options *o, const char *dir, const char *file,
		      const char *config, struct nri_plugin **ret, struct err *err) _must_check_;
void nri_plugin_ref(struct nri_plugin *p);
void nri_plugin_unref(struct nri_plugin *p);

/* Waits for its registration, which sets its name. -ERR_DEADLINE_EXCEEDED, -ERR_UNAVAILABLE */
int nri_plugin_wait(struct nri_plugin *p, struct err *err) _must_check_;
/* Tells it its configuration and who we are, and learns which events it wants. Blocks. */
int nri_plugin_configure(struct ctx *ctx, struct nri_plugin *p, const char *config,
			 const char *version, struct err *err) _must_check_;

/* "NN-name", "NN", "name"; "" before the registration. */
const char *nri_plugin_name(const struct nri_plugin *p);
const char *nri_plugin_idx(const struct nri_plugin *p);
const char *nri_plugin_base(const struct nri_plugin *p);
bool nri_plugin_closed(struct nri_plugin *p);
/* It has been synchronised: from here on its own requests are served. */
void nri_plugin_set_ready(struct nri_plugin *p);

/* A call, within the time for requests. 1 = *@ret is the reply (in ctx's arena); 0 = there is none:
 * the plugin does not want @event, does not know the method, or has just been closed since it
 * failed. Negative: it refused, or the request is over. @event 0: always called. */
int nri_plugin_call(struct ctx *ctx, struct nri_plugin *p, int event, const char *method,
		    const ProtobufCMessage *req, const ProtobufCMessageDescriptor *resp_desc,
		    void *ret /* T ** */, struct err *err) _must_check_;
/* One of the events that change nothing: by its own method, or StateChange of older plugins. */
int nri_plugin_event(struct ctx *ctx, struct nri_plugin *p, int event, NRI(PodSandbox) * pod,
		     NRI(Container) * container, struct err *err) _must_check_;

/* Ends the connection, and the process of a launched one. Again is fine. */
void nri_plugin_close(struct nri_plugin *p);
/* The same when the loop does not run any more, at once. */
void nri_plugin_finish(struct nri_plugin *p);

static inline void nri_plugin_unrefp(struct nri_plugin **p)
{
	if (*p)
		nri_plugin_unref(*p);
}
