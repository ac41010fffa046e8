/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon sends as Any: events and metrics. */
#include "client/client.h"

#include <string.h>

#include "base/str.h"

#define EVENT(name) &containerd__events__##name##__descriptor
#define IMAGE_EVENT(name) &containerd__services__images__v1__##name##__descriptor

static const ProtobufCMessageDescriptor *const known[] = {
	EVENT(container_create),
	EVENT(container_update),
	EVENT(container_delete),
	EVENT(content_create),
	EVENT(content_delete),
	IMAGE_EVENT(image_create),
	IMAGE_EVENT(image_update),
	IMAGE_EVENT(image_delete),
	EVENT(namespace_create),
	EVENT(namespace_update),
	EVENT(namespace_delete),
	EVENT(sandbox_create),
	EVENT(sandbox_start),
	EVENT(sandbox_exit),
	EVENT(snapshot_prepare),
	EVENT(snapshot_commit),
	EVENT(snapshot_remove),
	EVENT(task_create),
	EVENT(task_start),
	EVENT(task_delete),
	EVENT(task_io),
	EVENT(task_exit),
	EVENT(task_oom),
	EVENT(task_exec_added),
	EVENT(task_exec_started),
	EVENT(task_paused),
	EVENT(task_resumed),
	EVENT(task_checkpointed),
	&io__containerd__cgroups__v1__metrics__descriptor,
	&io__containerd__cgroups__v2__metrics__descriptor,
};

const ProtobufCMessageDescriptor *client_any_type(const char *url)
{
	const char *slash = strrchr(url, '/');

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (streq(known[i]->name, slash ? slash + 1 : url))
			return known[i];
	return NULL;
}
