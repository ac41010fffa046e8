/* SPDX-License-Identifier: Apache-2.0 */
/* ctr namespaces */
#include <errno.h>

#include "ctr/commands.h"
#include "ctr/listing.h"
#include "ctr/record.h"

#define NS_LABELS (&containerd__services__namespaces__v1__namespace__labels_entry__descriptor)

static int run_create(struct ctr *c, struct err *err)
{
	PB_NAMESPACES(CreateNamespaceRequest) req = PB_NAMESPACES_INIT(CREATE_NAMESPACE_REQUEST);
	PB_NAMESPACES(Namespace) ns = PB_NAMESPACES_INIT(NAMESPACE);
	struct labels l = {};
	const char *name;
	int r;

	r = record_arg(c, 0, "namespace", &name, err);
	if (r == 0)
		r = ctr_parse_labels(c->ctx.arena, c->args + 1, c->n_args - 1, &l, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r < 0)
		return r;
	ns.name = (char *)name;
	if (PB_LABELS_OUT(c->ctx.arena, &l, NS_LABELS, ns.labels, ns.n_labels) < 0)
		return err_nomem(err);
	req.namespace_ = &ns;
	return client_call(c->client, &c->ctx, PB_NAMESPACES_SERVICE, "Create", &req.base, NULL,
			   err);
}

static const struct ctr_flag list_flags[] = {{"quiet", 'q', CTR_BOOL, "print only the names"}, {}};

static int run_list(struct ctr *c, struct err *err)
{
	PB_NAMESPACES(ListNamespacesRequest) req = PB_NAMESPACES_INIT(LIST_NAMESPACES_REQUEST);
	struct listing list _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' '), .key = "Name"};
	PB_NAMESPACES(ListNamespacesResponse) * resp;
	int r;

	r = ctr_connect(c, err);
	if (r == 0)
		r = client_call(c->client, &c->ctx, PB_NAMESPACES_SERVICE, "List", &req.base, &resp,
				err);
	if (r < 0)
		return r;
	r = listing_begin(c, &list, "NAME\tLABELS\t\n", err);
	for (size_t i = 0; r == 0 && i < resp->n_namespaces; i++) {
		const PB_NAMESPACES(Namespace) *ns = resp->namespaces[i];
		const char *labels = record_labels(
			c->ctx.arena, (struct pb_label *const *)ns->labels, ns->n_labels);

		if (!labels)
			return err_nomem(err);
		r = listing_add(
			&list,
			json_pack("{s:s,s:o}", "Name", ns->name, "Labels", LISTING_LABELS(ns)), err,
			"%s\t%s\t\n", ns->name, ns->n_labels ? labels : "");
	}
	return r < 0 ? r : listing_end(&list, err);
}

/* ---- remove ---- */

static const struct ctr_flag remove_flags[] = {
	{"cgroup", 'c', CTR_BOOL, "delete the namespace's cgroup too"}, {}};

/* The cgroup /<name> of every hierarchy; the name is an identifier, so it stays one path component.
 */
static int remove_cgroup(struct arena *a, const char *name, struct err *err)
{
	static const char *const hierarchies[] = {"",	     "/blkio",	 "/cpu",      "/cpuacct",
						  "/cpuset", "/devices", "/freezer",  "/hugetlb",
						  "/memory", "/net_cls", "/net_prio", "/perf_event",
						  "/pids",   "/rdma",	 "/systemd",  "/unified"};
	int r;

	r = ident_validate(name, err);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(hierarchies); i++) {
		char *path = arena_printf(a, "/sys/fs/cgroup%s/%s", hierarchies[i], name);

		if (!path)
			return err_nomem(err);
		if (rmdir(path) < 0 && errno != ENOENT && errno != ENOTDIR)
			r = err_errno(err, errno, "remove the cgroup `%s`", path);
	}
	return r;
}

static int remove_one(struct ctr *c, const char *name, bool last, struct err *err)
{
	PB_NAMESPACES(DeleteNamespaceRequest) req = PB_NAMESPACES_INIT(DELETE_NAMESPACE_REQUEST);
	int r;

	req.name = (char *)name;
	r = client_call(c->client, &c->ctx, PB_NAMESPACES_SERVICE, "Delete", &req.base, NULL, err);
	if (r == 0 && ctr_bool(c, "cgroup"))
		r = remove_cgroup(c->ctx.arena, name, err);
	if (r == 0)
		puts(name);
	return r;
}

static int run_remove(struct ctr *c, struct err *err)
{
	const char *name;
	int r;

	r = record_arg(c, 0, "namespace", &name, err);
	if (r == 0)
		r = ctr_connect(c, err);
	return r < 0 ? r : record_each(c, "unable to delete", true, remove_one, err);
}

static int run_label(struct ctr *c, struct err *err)
{
	PB_NAMESPACES(UpdateNamespaceRequest) req = PB_NAMESPACES_INIT(UPDATE_NAMESPACE_REQUEST);
	PB_NAMESPACES(Namespace) ns = PB_NAMESPACES_INIT(NAMESPACE);
	Google__Protobuf__FieldMask mask;
	struct labels l = {};
	const char *name;
	int r;

	r = record_arg(c, 0, "namespace", &name, err);
	if (r == 0)
		r = record_label_args(c, &l, err);
	if (r == 0)
		r = record_label_mask(c->ctx.arena, &l, &mask, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r < 0)
		return r;
	ns.name = (char *)name;
	if (PB_LABELS_OUT(c->ctx.arena, &l, NS_LABELS, ns.labels, ns.n_labels) < 0)
		return err_nomem(err);
	req.namespace_ = &ns;
	req.update_mask = &mask;
	return client_call(c->client, &c->ctx, PB_NAMESPACES_SERVICE, "Update", &req.base, NULL,
			   err);
}

static const struct ctr_command create = {
	.name = "create",
	.aliases = {"c"},
	.usage = "create a namespace",
	.args = "<name> [<key>=<value>]",
	.run = run_create,
};
static const struct ctr_command list = {
	.name = "list",
	.aliases = {"ls"},
	.usage = "list namespaces",
	.args = "[flags]",
	.flags = CTR_FLAGS(list_flags, format_flags),
	.run = run_list,
};
static const struct ctr_command remove_ = {
	.name = "remove",
	.aliases = {"rm"},
	.usage = "remove namespaces that are empty",
	.args = "<name> [<name>, ...]",
	.flags = CTR_FLAGS(remove_flags),
	.names = CTR_NAMES_NAMESPACES,
	.more = CTR_NAMES_NAMESPACES,
	.run = run_remove,
};
static const struct ctr_command label = {
	.name = "label",
	.usage = "set and clear labels of a namespace",
	.args = "<name> [<key>=<value>, ...]",
	.description = "   Labels with an empty value are cleared.",
	.names = CTR_NAMES_NAMESPACES,
	.run = run_label,
};

const struct ctr_command cmd_namespaces = {
	.name = "namespaces",
	.aliases = {"namespace", "ns"},
	.usage = "manage namespaces",
	.subcommands = CTR_COMMANDS(&create, &list, &remove_, &label),
};
