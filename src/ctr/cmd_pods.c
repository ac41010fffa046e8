/* SPDX-License-Identifier: Apache-2.0 */
/* ctr pods: what the kubelet runs on this node, for who sits at it: pods, their containers' logs.
 *
 * Talks runtime.v1 on the daemon's socket, as the kubelet does. A pod is named by its id (or the
 * beginning of it), its name, or namespace/name; a log by a container's id or name, or by a pod
 * that has only one. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"
#include "ctr/commands.h"
#include "ctr/listing.h"
#include "ctr/record.h"
#include "rpc/pb_json.h"

#define CRI(m) Runtime__V1__##m
#define CRI_INIT(m) RUNTIME__V1__##m##__INIT
#define CRI_SERVICE (&runtime__v1__runtime_service__descriptor)
#define ID_SHOWN 13
#define LINE_MAX_BYTES (64u << 20)
#define FOLLOW_NS (200 * NSEC_PER_MSEC)

static int call(struct ctr *c, const char *method, const ProtobufCMessage *req, void *ret,
		struct err *err)
{
	return client_call(c->client, &c->ctx, CRI_SERVICE, method, req, ret, err);
}

/* ---- finding ---- */

static int pods_get(struct ctr *c, CRI(ListPodSandboxResponse) * *ret, struct err *err)
{
	CRI(ListPodSandboxRequest) req = CRI_INIT(LIST_POD_SANDBOX_REQUEST);
	return call(c, "ListPodSandbox", &req.base, ret, err);
}

static int containers_get(struct ctr *c, CRI(ListContainersResponse) * *ret, struct err *err)
{
	CRI(ListContainersRequest) req = CRI_INIT(LIST_CONTAINERS_REQUEST);
	return call(c, "ListContainers", &req.base, ret, err);
}

/* 3 = that is it, 2 and 1: less surely, 0 = no. */
static int pod_rank(struct arena *a, const CRI(PodSandbox) * p, const char *name)
{
	const char *full = arena_printf(a, "%s/%s", p->metadata->namespace_, p->metadata->name);

	if (streq(p->id, name) || (full && streq(full, name)))
		return 3;
	if (streq(p->metadata->name, name))
		return 2;
	return str_has_prefix(p->id, name);
}

static int ambiguous(const char *what, const char *name, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "%s %s: there are several, name one by its id",
		       what, name);
}

/* Of several with one name the one that is ready. */
static int pod_find(struct ctr *c, const char *name, const CRI(PodSandbox) * *ret, struct err *err)
{
	CRI(ListPodSandboxResponse) * all;
	const CRI(PodSandbox) *best = NULL;
	int rank = 0, same = 0, r = pods_get(c, &all, err);

	for (size_t i = 0; r == 0 && i < all->n_items; i++) {
		int now = pod_rank(c->ctx.arena, all->items[i], name) * 2;
		if (now && all->items[i]->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
			now++;
		same = now > rank ? 1 : same + (now && now == rank);
		if (now > rank) {
			rank = now;
			best = all->items[i];
		}
	}
	if (r < 0)
		return r;
	if (!best)
		return err_set(err, ERR_NOT_FOUND, "pod %s", name);
	if (same > 1)
		return ambiguous("pod", name, err);
	*ret = best;
	return 0;
}

static int container_rank(const CRI(Container) * k, const char *name)
{
	return streq(k->id, name)		? 3
	       : streq(k->metadata->name, name) ? 2
						: str_has_prefix(k->id, name);
}

static int container_find(struct ctr *c, const char *name, const CRI(Container) * *ret,
			  struct err *err)
{
	CRI(ListContainersResponse) * all;
	const CRI(Container) *best = NULL;
	const CRI(PodSandbox) * pod;
	int64_t rank = 0;
	int same = 0, r = containers_get(c, &all, err);

	/* The latest attempt of those of one name. */
	for (size_t i = 0; r == 0 && i < all->n_containers; i++) {
		int64_t now = container_rank(all->containers[i], name);
		same += now > 0 && now < 3 && rank > 0 &&
			!streq(all->containers[i]->pod_sandbox_id, best->pod_sandbox_id);
		if (now > rank ||
		    (now && now == rank && all->containers[i]->created_at > best->created_at)) {
			rank = now;
			best = all->containers[i];
		}
	}
	if (r == 0 && best && same && rank < 3)
		return ambiguous("container", name, err);
	if (r == 0 && !best) {
		r = pod_find(c, name, &pod, err);
		if (r == -ERR_NOT_FOUND)
			return err_set(err, ERR_NOT_FOUND, "container or pod %s", name);
		for (size_t i = 0; r == 0 && i < all->n_containers; i++)
			if (streq(all->containers[i]->pod_sandbox_id, pod->id)) {
				if (best)
					return err_set(err, ERR_INVALID_ARGUMENT,
						       "pod %s has several containers, name one",
						       name);
				best = all->containers[i];
			}
		if (r == 0 && !best)
			return err_set(err, ERR_NOT_FOUND, "pod %s has no container", name);
	}
	*ret = best;
	return r;
}

/* ---- list ---- */

static const struct ctr_flag list_flags[] = {{"quiet", 'q', CTR_BOOL, "print only the ids"}, {}};

static const char *age(struct arena *a, int64_t created_ns)
{
	struct timespec now = time_now();
	int64_t s = now.tv_sec - created_ns / NSEC_PER_SEC;

	s = MAX(s, 0);
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
	if (call(c, "PodSandboxStatus", &req.base, &resp, &gone) < 0 || !resp->status ||
	    !resp->status->network)
		return "";
	return resp->status->network->ip;
}

static int list_one(struct ctr *c, struct listing *l, const CRI(PodSandbox) * p,
		    const CRI(ListContainersResponse) * all, struct err *err)
{
	bool ready = p->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;
	const char *state = ready ? "Ready" : "NotReady", *ip = pod_ip(c, p->id),
		   *old = age(c->ctx.arena, p->created_at);
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
	int r = ctr_connect(c, err);

	if (r == 0)
		r = pods_get(c, &pods, err);
	if (r == 0)
		r = containers_get(c, &all, err);
	if (r == 0)
		r = listing_begin(c, &l, "ID\tNAME\tNAMESPACE\tSTATE\tIP\tAGE\tCONTAINERS\t\n",
				  err);
	for (size_t i = 0; r == 0 && i < pods->n_items; i++)
		r = list_one(c, &l, pods->items[i], all, err);
	return r < 0 ? r : listing_end(&l, err);
}

/* ---- inspect ---- */

static int run_inspect(struct ctr *c, struct err *err)
{
	CRI(PodSandboxStatusRequest) req = CRI_INIT(POD_SANDBOX_STATUS_REQUEST);
	CRI(PodSandboxStatusResponse) * resp;
	const CRI(PodSandbox) * p;
	const char *name;
	int r = record_arg(c, 0, "pod", &name, err);

	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = pod_find(c, name, &p, err);
	if (r < 0)
		return r;
	req.pod_sandbox_id = p->id;
	req.verbose = true;
	r = call(c, "PodSandboxStatus", &req.base, &resp, err);
	if (r < 0)
		return r;
	json_t *out _cleanup_json_ = json_object();
	if (!out ||
	    json_object_set_new(out, "status",
				resp->status ? pb_json(&resp->status->base) : json_null()) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < resp->n_info; i++) {
		json_t *v = NULL;
		r = json_parse(resp->info[i]->value, strlen(resp->info[i]->value), &v, NULL);
		json_object_set_new(out, resp->info[i]->key,
				    r == 0 ? v : json_string(resp->info[i]->value));
	}
	return ctr_print_json(out, err);
}

/* ---- logs ---- */

static const struct ctr_flag logs_flags[] = {
	{"follow", 'f', CTR_BOOL, "go on until the container ends"},
	{"tail", 0, CTR_INT, "only that many lines of the end", "-1"},
	{"timestamps", 't', CTR_BOOL, "print when each line was written"},
	{}};

struct reader {
	const char *path;
	int fd;
	ino_t ino;
	struct buf rest;	 /* a line that is not whole yet */
	int64_t skip;		 /* lines of the application */
	bool timestamps, inside; /* in a line that comes in pieces */
	int64_t lines;
	bool count_only;
};

static void reader_done(struct reader *r)
{
	fd_closep(&r->fd);
	buf_done(&r->rest);
}

static int reader_open(struct reader *r, struct err *err)
{
	struct stat st;

	fd_closep(&r->fd);
	r->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (r->fd < 0 || fstat(r->fd, &st) < 0)
		return err_errno(err, errno, "open %s", r->path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_FAILED_PRECONDITION, "%s is no file", r->path);
	r->ino = st.st_ino;
	return 0;
}

/* "<time> <stream> <F|P> <text>\n" */
static void line_print(struct reader *r, const char *s, size_t n)
{
	const char *end = s + n, *stream = memchr(s, ' ', n), *tag, *text;
	FILE *to;

	stream = stream ? stream + 1 : NULL;
	tag = stream ? memchr(stream, ' ', (size_t)(end - stream)) : NULL;
	text = tag && end - tag >= 3 ? tag + 2 : NULL;
	if (!text || (tag[1] != 'F' && tag[1] != 'P'))
		return;
	text += text < end && *text == ' ';
	bool last = tag[1] == 'F';
	if (r->count_only) {
		r->lines += last;
		return;
	}
	if (r->skip > 0) {
		r->skip -= last;
		return;
	}
	to = *stream == 's' && str_has_prefix(stream, "stderr") ? stderr : stdout;
	if (r->timestamps && !r->inside)
		fprintf(to, "%.*s ", (int)(stream - 1 - s), s);
	fwrite(text, 1, (size_t)(end - text), to);
	if (last)
		putc('\n', to);
	r->inside = !last;
}

/* To the end of the file. */
static int reader_read(struct reader *r, struct err *err)
{
	char b[65536];
	ssize_t n;

	while ((n = read(r->fd, b, sizeof(b))) > 0) {
		if (r->rest.len > LINE_MAX_BYTES)
			return err_set(err, ERR_INVALID_ARGUMENT, "%s has a line without an end",
				       r->path);
		if (buf_add(&r->rest, b, (size_t)n) < 0)
			return err_nomem(err);
		size_t at = 0;
		for (char *nl; (nl = memchr(r->rest.data + at, '\n', r->rest.len - at));) {
			size_t end = (size_t)(nl - r->rest.data);
			line_print(r, r->rest.data + at, end - at);
			at = end + 1;
		}
		buf_consume(&r->rest, at);
	}
	if (n < 0)
		return err_errno(err, errno, "read %s", r->path);
	fflush(stdout);
	return ferror(stdout) ? err_set(err, ERR_UNKNOWN, "write to standard output") : 0;
}

static int tail(struct reader *r, int64_t tail_lines, struct err *err)
{
	struct reader count = {.path = r->path, .fd = -1, .count_only = true};
	int e = tail_lines < 0 ? 0 : reader_open(&count, err);

	if (e == 0 && tail_lines >= 0) {
		e = reader_read(&count, err);
		r->skip = MAX(count.lines - tail_lines, (int64_t)0);
	}
	reader_done(&count);
	return e;
}

static int container_state(struct ctr *c, const char *id, CRI(ContainerStatus) * *ret,
			   struct err *err)
{
	CRI(ContainerStatusRequest) req = CRI_INIT(CONTAINER_STATUS_REQUEST);
	CRI(ContainerStatusResponse) * resp;

	req.container_id = (char *)id;
	int r = call(c, "ContainerStatus", &req.base, &resp, err);
	if (r == 0 && !resp->status)
		return err_set(err, ERR_INTERNAL, "container %s came without a status", id);
	if (r == 0)
		*ret = resp->status;
	return r;
}

/* The file is renamed and begun anew when it is rotated: what is left of the old one comes first.
 */
static int rotated(struct reader *r, struct err *err)
{
	struct stat st;

	if (stat(r->path, &st) < 0 || st.st_ino == r->ino)
		return 0;
	int e = reader_read(r, err);
	if (e == 0)
		e = reader_open(r, err);
	return e < 0 ? e : 1;
}

static int follow(struct ctr *c, struct reader *r, const char *id, struct err *err)
{
	static const struct timespec pause = {.tv_nsec = FOLLOW_NS};
	CRI(ContainerStatus) * s;
	struct err gone = ERR_INIT;
	int e = 0;

	for (unsigned i = 0; e >= 0; i++) {
		/* Asked before the last look, so that nothing is missed. */
		bool over = false;
		if (i % 5 == 0) {
			int x = container_state(c, id, &s, &gone);
			if (x < 0 && x != -ERR_NOT_FOUND)
				return err_copy(err, &gone);
			over = x < 0 || s->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
		}
		e = reader_read(r, err);
		if (e == 0)
			e = rotated(r, err);
		if (e == 0 && over)
			return 0;
		if (e == 0)
			nanosleep(&pause, NULL);
	}
	return e;
}

static int run_logs(struct ctr *c, struct err *err)
{
	struct reader r = {.fd = -1, .timestamps = ctr_bool(c, "timestamps")};
	const CRI(Container) * k;
	CRI(ContainerStatus) * s;
	const char *name;
	int e = record_arg(c, 0, "container or pod", &name, err);

	if (e == 0)
		e = ctr_connect(c, err);
	if (e == 0)
		e = container_find(c, name, &k, err);
	if (e == 0)
		e = container_state(c, k->id, &s, err);
	if (e < 0)
		return e;
	if (str_empty(s->log_path))
		return err_set(err, ERR_FAILED_PRECONDITION, "container %s has no log", k->id);
	r.path = s->log_path;
	e = tail(&r, ctr_int(c, "tail"), err);
	if (e == 0)
		e = reader_open(&r, err);
	if (e == 0)
		e = ctr_bool(c, "follow") ? follow(c, &r, k->id, err) : reader_read(&r, err);
	reader_done(&r);
	return e;
}

/* ---- remove ---- */

static int remove_one(struct ctr *c, const char *name, bool last, struct err *err)
{
	CRI(StopPodSandboxRequest) stop = CRI_INIT(STOP_POD_SANDBOX_REQUEST);
	CRI(RemovePodSandboxRequest) rm = CRI_INIT(REMOVE_POD_SANDBOX_REQUEST);
	CRI(StopPodSandboxResponse) * stopped;
	CRI(RemovePodSandboxResponse) * removed;
	const CRI(PodSandbox) * p;
	int r = pod_find(c, name, &p, err);

	if (r < 0)
		return r;
	stop.pod_sandbox_id = rm.pod_sandbox_id = p->id;
	r = call(c, "StopPodSandbox", &stop.base, &stopped, err);
	if (r == 0)
		r = call(c, "RemovePodSandbox", &rm.base, &removed, err);
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
static const struct ctr_command inspect = {
	.name = "inspect",
	.usage = "show a pod",
	.args = "<pod>",
	.run = run_inspect,
};
static const struct ctr_command logs = {
	.name = "logs",
	.usage = "print a container's log",
	.args = "[flags] <container>|<pod>",
	.flags = CTR_FLAGS(logs_flags),
	.run = run_logs,
};
static const struct ctr_command remove_ = {
	.name = "remove",
	.aliases = {"rm"},
	.usage = "stop and remove pods; a kubelet makes its own anew",
	.args = "<pod> [<pod>, ...]",
	.run = run_remove,
};
const struct ctr_command cmd_pods = {
	.name = "pods",
	.aliases = {"pod"},
	.usage = "look at the pods of a Kubernetes node",
	.subcommands = CTR_COMMANDS(&list, &inspect, &logs, &remove_),
};
