/* SPDX-License-Identifier: Apache-2.0 */
/* `ctr pods`: what runs on a Kubernetes node, for a person without crictl. Asks the daemon's
 * runtime.v1, as the kubelet does (pods.h). */
#include <errno.h>

#include "base/time.h"
#include "ctr/commands.h"
#include "ctr/listing.h"
#include "ctr/pods.h"
#include "ctr/record.h"
#include "rpc/pb_json.h"

#define ID_SHOWN 13

/* ---- list ---- */

static const struct ctr_flag list_flags[] = {{"quiet", 'q', CTR_BOOL, "print only the ids"}, {}};

const char *pods_age(struct arena *a, int64_t since_ns)
{
	struct timespec now = time_now();
	int64_t s = now.tv_sec - since_ns / NSEC_PER_SEC;

	s = MAX(s, (int64_t)0);
	return s < 120	    ? arena_printf(a, "%llds", (long long)s)
	       : s < 7200   ? arena_printf(a, "%lldm", (long long)s / 60)
	       : s < 172800 ? arena_printf(a, "%lldh", (long long)s / 3600)
			    : arena_printf(a, "%lldd", (long long)s / 86400);
}

static const char *pod_ip(struct ctr *c, const char *id)
{
	CRI(PodSandboxStatusRequest) req = CRI_INIT(POD_SANDBOX_STATUS_REQUEST);
	CRI(PodSandboxStatusResponse) * resp;
	struct err gone = ERR_INIT;

	req.pod_sandbox_id = (char *)id;
	if (pods_call(c, "PodSandboxStatus", &req.base, &resp, &gone) < 0 || !resp->status ||
	    !resp->status->network)
		return "";
	return resp->status->network->ip;
}

static int list_one(struct ctr *c, struct listing *l, const CRI(PodSandbox) * p,
		    const CRI(ListContainersResponse) * all, struct err *err)
{
	bool ready = p->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;
	const char *state = ready ? "Ready" : "NotReady", *ip = pod_ip(c, p->id),
		   *old = pods_age(c->ctx.arena, p->created_at);
	size_t n = 0, running = 0;

	for (size_t i = 0; i < all->n_containers; i++)
		if (streq(all->containers[i]->pod_sandbox_id, p->id)) {
			n++;
			running += all->containers[i]->state ==
				   RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
		}
	if (!old)
		return err_nomem(err);
	return listing_add(
		l,
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I}", "ID", p->id, "Name",
			  p->metadata->name, "Namespace", p->metadata->namespace_, "State", state,
			  "IP", ip, "Age", old, "Containers", (json_int_t)n, "Running",
			  (json_int_t)running, "CreatedAt", (json_int_t)p->created_at),
		err, "%.*s\t%s\t%s\t%s\t%s\t%s\t%zu/%zu\t\n", ID_SHOWN, p->id, p->metadata->name,
		p->metadata->namespace_, state, str_or(ip, "-"), old, running, n);
}

static int run_list(struct ctr *c, struct err *err)
{
	struct listing l _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 2, ' '), .key = "ID"};
	CRI(ListPodSandboxResponse) * pods;
	CRI(ListContainersResponse) * all;
	int r = pods_no_more_args(c, 0, err);

	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = pods_get(c, &pods, err);
	if (r == 0)
		r = pods_containers_get(c, &all, err);
	if (r == 0)
		r = listing_begin(c, &l, "ID\tNAME\tNAMESPACE\tSTATE\tIP\tAGE\tCONTAINERS\t\n",
				  err);
	for (size_t i = 0; r == 0 && i < pods->n_items; i++)
		r = list_one(c, &l, pods->items[i], all, err);
	return r < 0 ? r : listing_end(&l, err);
}

/* ---- containers ---- */

static const struct ctr_flag containers_flags[] = {
	{"all", 'a', CTR_BOOL, "also those that were followed by another one of their name"},
	{"quiet", 'q', CTR_BOOL, "print only the ids"},
	{}};

static const char *state_text(CRI(ContainerState) state)
{
	static const char *const names[] = {"Created", "Running", "Exited", "Unknown"};

	return (size_t)state < ARRAY_LEN(names) ? names[state] : "Unknown";
}

/* "-", "0", "137 OOMKilled": reasons that say no more than the code are left out. */
static const char *exit_text(struct arena *a, const CRI(ContainerStatus) * s)
{
	if (s->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED)
		return "-";
	if (str_empty(s->reason) || streq(s->reason, "Completed") || streq(s->reason, "Error"))
		return arena_printf(a, "%d", s->exit_code);
	return arena_printf(a, "%d %s", s->exit_code, s->reason);
}

static int container_row(struct ctr *c, struct listing *l, const CRI(PodSandbox) * p,
			 const CRI(Container) * k, struct err *err)
{
	struct arena *a = c->ctx.arena;
	struct err gone = ERR_INIT;
	CRI(ContainerStatus) * s;
	int r = pods_container_status(c, k->id, &s, &gone);

	if (r == -ERR_NOT_FOUND) /* since the list was made */
		return 0;
	if (r < 0)
		return err_copy(err, &gone);
	int64_t since = s->finished_at	? s->finished_at
			: s->started_at ? s->started_at
					: s->created_at;
	const char *image = str_or(s->image ? s->image->image : NULL, k->image_ref),
		   *code = exit_text(a, s), *age = pods_age(a, since),
		   *state = state_text(s->state);
	if (!code || !age)
		return err_nomem(err);
	return listing_add(
		l,
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:s,s:s,s:s,s:I,s:I,s:I,s:s}", "ID", k->id,
			  "Name", k->metadata->name, "Pod", p->metadata->name, "Namespace",
			  p->metadata->namespace_, "State", state, "Attempt",
			  (json_int_t)k->metadata->attempt, "ExitCode", (json_int_t)s->exit_code,
			  "Reason", s->reason, "Since", age, "Image", image, "CreatedAt",
			  (json_int_t)s->created_at, "StartedAt", (json_int_t)s->started_at,
			  "FinishedAt", (json_int_t)s->finished_at, "LogPath", s->log_path),
		err, "%.*s\t%s\t%s/%s\t%s\t%s\t%s\t%u\t%s\t\n", ID_SHOWN, k->id, k->metadata->name,
		p->metadata->namespace_, p->metadata->name, state, code, age, k->metadata->attempt,
		image);
}

/* Of containers of one name the newest comes first. */
static int containers_of(struct ctr *c, struct listing *l, const CRI(PodSandbox) * p,
			 const CRI(ListContainersResponse) * all, struct err *err)
{
	const char *last = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < all->n_containers; i++) {
		const CRI(Container) *k = all->containers[i];

		if (!streq(k->pod_sandbox_id, p->id) ||
		    (last && streq(last, k->metadata->name) && !ctr_bool(c, "all")))
			continue;
		last = k->metadata->name;
		r = container_row(c, l, p, k, err);
	}
	return r;
}

static int run_containers(struct ctr *c, struct err *err)
{
	struct listing l _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 2, ' '), .key = "ID"};
	CRI(ListPodSandboxResponse) * pods;
	CRI(ListContainersResponse) * all;
	const CRI(PodSandbox) *one = NULL;
	int r = pods_no_more_args(c, 1, err);

	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0 && c->n_args == 1)
		r = pods_find(c, ctr_arg(c, 0), &one, err);
	if (r == 0)
		r = pods_get(c, &pods, err);
	if (r == 0)
		r = pods_containers_get(c, &all, err);
	if (r == 0)
		r = listing_begin(c, &l, "ID\tNAME\tPOD\tSTATE\tEXIT\tSINCE\tRESTARTS\tIMAGE\t\n",
				  err);
	for (size_t i = 0; r == 0 && i < pods->n_items; i++)
		if (!one || streq(one->id, pods->items[i]->id))
			r = containers_of(c, &l, pods->items[i], all, err);
	return r < 0 ? r : listing_end(&l, err);
}

/* ---- inspect ---- */

/* What a person reads: the state's name, also when it is the first one, and times. */
static int make_readable(json_t *status, const ProtobufCEnumDescriptor *states, int state)
{
	static const char *const times[] = {"created_at", "started_at", "finished_at"};
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(states, state);
	int r = json_object_set_new(status, "state", json_string(v ? v->name : "?"));

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(times); i++) {
		int64_t ns = json_int(status, times[i], 0);
		char text[40];

		if (ns <= 0)
			continue;
		time_format_rfc3339((struct timespec){ns / NSEC_PER_SEC, ns % NSEC_PER_SEC}, text);
		r = json_object_set_new(status, times[i], json_string(text));
	}
	return r;
}

static json_t *container_json(const CRI(ContainerStatus) * s)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
		&runtime__v1__signal__descriptor, (int)s->stop_signal);
	json_t *j = pb_json(&s->base);

	if (j && (make_readable(j, &runtime__v1__container_state__descriptor, (int)s->state) < 0 ||
		  json_object_set_new(j, "stop_signal", json_string(v ? v->name : "")) < 0)) {
		json_decref(j);
		return NULL;
	}
	return j;
}

/* The values are JSON, or plain texts. */
static int add_info(json_t *out, const char *key, const char *value)
{
	json_t *v = NULL;
	int r = json_parse(value, strlen(value), &v, NULL);

	return json_object_set_new(out, key, r == 0 ? v : json_string(value));
}

static int inspect_pod(struct ctr *c, const char *id, struct err *err)
{
	CRI(PodSandboxStatusRequest) req = CRI_INIT(POD_SANDBOX_STATUS_REQUEST);
	CRI(PodSandboxStatusResponse) * resp;
	json_t *out _cleanup_json_ = json_object(), *status, *containers;

	req.pod_sandbox_id = (char *)id;
	req.verbose = true;
	int r = pods_call(c, "PodSandboxStatus", &req.base, &resp, err);
	if (r == 0 && !resp->status)
		return err_set(err, ERR_INTERNAL, "pod %s came without a status", id);
	if (r < 0)
		return r;
	status = pb_json(&resp->status->base);
	containers = json_array();
	if (!out || json_object_set_new(out, "status", status) < 0 ||
	    json_object_set_new(out, "containers", containers) < 0 ||
	    make_readable(status, &runtime__v1__pod_sandbox_state__descriptor,
			  (int)resp->status->state) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < resp->n_containers_statuses; i++)
		if (json_array_append_new(containers,
					  container_json(resp->containers_statuses[i])) < 0)
			return err_nomem(err);
	for (size_t i = 0; i < resp->n_info; i++)
		if (add_info(out, resp->info[i]->key, resp->info[i]->value) < 0)
			return err_nomem(err);
	return ctr_print_json(out, err);
}

static int inspect_container(struct ctr *c, const char *id, struct err *err)
{
	CRI(ContainerStatusRequest) req = CRI_INIT(CONTAINER_STATUS_REQUEST);
	CRI(ContainerStatusResponse) * resp;
	json_t *out _cleanup_json_ = json_object();

	req.container_id = (char *)id;
	req.verbose = true;
	int r = pods_call(c, "ContainerStatus", &req.base, &resp, err);
	if (r == 0 && !resp->status)
		return err_set(err, ERR_INTERNAL, "container %s came without a status", id);
	if (r < 0)
		return r;
	if (!out || json_object_set_new(out, "status", container_json(resp->status)) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < resp->n_info; i++)
		if (add_info(out, resp->info[i]->key, resp->info[i]->value) < 0)
			return err_nomem(err);
	return ctr_print_json(out, err);
}

static int run_inspect(struct ctr *c, struct err *err)
{
	const CRI(Container) * k;
	const CRI(PodSandbox) * p;
	struct err own = ERR_INIT;
	const char *name;
	int r = record_arg(c, 0, "pod or container", &name, err);

	if (r == 0)
		r = pods_no_more_args(c, 2, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r < 0)
		return r;
	if (c->n_args == 2) {
		r = pods_container_find(c, ctr_arg(c, 1), name, &k, err);
		return r < 0 ? r : inspect_container(c, k->id, err);
	}
	r = pods_find(c, name, &p, &own);
	if (r == 0)
		return inspect_pod(c, p->id, err);
	if (r != -ERR_NOT_FOUND)
		return err_copy(err, &own);
	r = pods_container_find(c, name, NULL, &k, err);
	return r < 0 ? r : inspect_container(c, k->id, err);
}

/* ---- remove ---- */

static int remove_one(struct ctr *c, const char *name, bool last, struct err *err)
{
	CRI(StopPodSandboxRequest) stop = CRI_INIT(STOP_POD_SANDBOX_REQUEST);
	CRI(RemovePodSandboxRequest) rm = CRI_INIT(REMOVE_POD_SANDBOX_REQUEST);
	CRI(StopPodSandboxResponse) * stopped;
	CRI(RemovePodSandboxResponse) * removed;
	const CRI(PodSandbox) * p;
	int r = pods_find(c, name, &p, err);

	if (r < 0)
		return r;
	stop.pod_sandbox_id = rm.pod_sandbox_id = p->id;
	r = pods_call(c, "StopPodSandbox", &stop.base, &stopped, err);
	if (r == 0)
		r = pods_call(c, "RemovePodSandbox", &rm.base, &removed, err);
	if (r == 0)
		puts(p->id);
	return r;
}

static int run_remove(struct ctr *c, struct err *err)
{
	const char *name;
	int r = record_arg(c, 0, "pod", &name, err);

	if (r == 0)
		r = ctr_connect(c, err);
	return r < 0 ? r : record_each(c, "failed to remove pod", false, remove_one, err);
}

static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list pods",
	.args = "[flags]",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
static const struct ctr_command containers = {
	.name = "containers",
	.aliases = {"ps"},
	.usage = "list the containers of pods",
	.args = "[flags] [<pod>]",
	.description = "   Of containers of one name the latest is shown. EXIT is the exit code, "
		       "with its reason if\n"
		       "   that says more; SINCE is the time in the state. `ctr -n k8s.io tasks "
		       "exec` runs a command\n"
		       "   in a container.",
	.flags = CTR_FLAGS(containers_flags, format_flags),
	.names = CTR_NAMES_PODS,
	.run = run_containers,
};
static const struct ctr_command inspect = {
	.name = "inspect",
	.usage = "show a pod with its containers, or a container",
	.args = "<pod> [<container>] | <container>",
	.names = CTR_NAMES_PODS,
	.run = run_inspect,
};
static const struct ctr_command remove_ = {
	.name = "remove",
	.aliases = {"rm"},
	.usage = "stop and remove pods; a kubelet makes its own anew",
	.args = "<pod> [<pod>, ...]",
	.names = CTR_NAMES_PODS,
	.more = CTR_NAMES_PODS,
	.run = run_remove,
};
const struct ctr_command cmd_pods = {
	.name = "pods",
	.aliases = {"pod"},
	.usage = "look at the pods of a Kubernetes node",
	.description = "   A pod is named by its name, by NAMESPACE/NAME or by its id, a container "
		       "by its name or\n"
		       "   its id; the beginning of an id will do. All of this is in containerd's "
		       "namespace k8s.io,\n"
		       "   whatever --namespace says.",
	.subcommands = CTR_COMMANDS(&list, &containers, &inspect, &pods_logs, &remove_),
};
