/* SPDX-License-Identifier: Apache-2.0 */
/* ctr completion: scripts for shells, and the hidden command __complete that they call.
 *
 * __complete -- WORD... prints a line "candidate<tab>what it is" for each way to complete the last
 * word, or the one line ":files" when it is the name of a file. Names that the daemon has are asked
 * of it, within a second; no daemon, no candidates, and never an error: a shell is typing. */
#include "base/time.h"
#include "ctr/commands.h"
#include "ctr/complete.h"
#include "ctr/cmd_snapshots.h"
#include "ctr/disk.h"
#include "ctr/pods.h"
#include "rpc/rpc.h"

#define PATIENCE_NS NSEC_PER_SEC

/* ---- Names ---- */

struct names {
	struct ctr *c;
	const struct complete *k;
	struct buf *out;
};

static void put_name(const struct names *n, const char *name, const char *what)
{
	if (str_has_prefix(name, n->k->word) && !strpbrk(name, "\t\n"))
		buf_printf(n->out, "%s%s\t%s\n", n->k->prefix, name, what);
}

static int put_images(struct names *n, struct err *err)
{
	PB_IMAGES(ListImagesRequest) req = PB_IMAGES_INIT(LIST_IMAGES_REQUEST);
	PB_IMAGES(ListImagesResponse) * resp;
	int r = client_call(n->c->client, &n->c->ctx, PB_IMAGES_SERVICE, "List", &req.base, &resp,
			    err);

	for (size_t i = 0; r == 0 && i < resp->n_images; i++)
		put_name(n, resp->images[i]->name, "image");
	return r;
}

static int put_containers(struct names *n, struct err *err)
{
	PB_CONTAINERS(ListContainersRequest) req = PB_CONTAINERS_INIT(LIST_CONTAINERS_REQUEST);
	PB_CONTAINERS(ListContainersResponse) * resp;
	int r = client_call(n->c->client, &n->c->ctx, PB_CONTAINERS_SERVICE, "List", &req.base,
			    &resp, err);

	for (size_t i = 0; r == 0 && i < resp->n_containers; i++)
		put_name(n, resp->containers[i]->id, resp->containers[i]->image);
	return r;
}

static int put_tasks(struct names *n, struct err *err)
{
	PB_TASKS(ListTasksRequest) req = PB_TASKS_INIT(LIST_TASKS_REQUEST);
	PB_TASKS(ListTasksResponse) * resp;
	int r = client_call(n->c->client, &n->c->ctx, PB_TASKS_SERVICE, "List", &req.base, &resp,
			    err);

	for (size_t i = 0; r == 0 && i < resp->n_tasks; i++)
		put_name(n, resp->tasks[i]->id, "task");
	return r;
}

static int put_snapshots(struct names *n, struct err *err)
{
	const char *snapshotter = n->k->snapshotter;
	struct snapshots l;
	int r = 0;

	if (str_empty(snapshotter))
		r = client_default_snapshotter(n->c->client, &n->c->ctx, &snapshotter, err);
	if (r == 0)
		r = snapshots_list(n->c, snapshotter, &l, err);
	for (size_t i = 0; r == 0 && i < l.n; i++)
		put_name(n, l.v[i]->name, "snapshot");
	return r;
}

static int put_leases(struct names *n, struct err *err)
{
	PB_LEASES(ListRequest) req = PB_LEASES_INIT(LIST_REQUEST);
	PB_LEASES(ListResponse) * resp;
	int r = client_call(n->c->client, &n->c->ctx, PB_LEASES_SERVICE, "List", &req.base, &resp,
			    err);

	for (size_t i = 0; r == 0 && i < resp->n_leases; i++)
		put_name(n, resp->leases[i]->id, "lease");
	return r;
}

static int put_namespaces(struct names *n, struct err *err)
{
	PB_NAMESPACES(ListNamespacesRequest) req = PB_NAMESPACES_INIT(LIST_NAMESPACES_REQUEST);
	PB_NAMESPACES(ListNamespacesResponse) * resp;
	int r = client_call(n->c->client, &n->c->ctx, PB_NAMESPACES_SERVICE, "List", &req.base,
			    &resp, err);

	for (size_t i = 0; r == 0 && i < resp->n_namespaces; i++)
		put_name(n, resp->namespaces[i]->name, "namespace");
	return r;
}

static int put_content(struct names *n, struct err *err)
{
	struct disk d;
	int r = disk_load(n->c, &d, err);

	for (size_t i = 0; r == 0 && i < d.n_blobs; i++)
		put_name(n, d.blobs[i].digest, d.blobs[i].of_image ? "blob of an image" : "blob");
	return r;
}

static int put_sandboxes(struct names *n, struct err *err)
{
	PB_SANDBOX(StoreListRequest) req = PB_SANDBOX_INIT(STORE_LIST_REQUEST);
	PB_SANDBOX(StoreListResponse) * resp;
	int r = client_call(n->c->client, &n->c->ctx, PB_SANDBOX_STORE_SERVICE, "List", &req.base,
			    &resp, err);

	for (size_t i = 0; r == 0 && i < resp->n_list; i++)
		put_name(n, resp->list[i]->sandbox_id, "sandbox");
	return r;
}

static int put_pods(struct names *n, struct err *err)
{
	CRI(ListPodSandboxResponse) * all;
	int r = pods_get(n->c, &all, err);

	for (size_t i = 0; r == 0 && i < all->n_items; i++)
		put_name(n, all->items[i]->metadata->name, all->items[i]->metadata->namespace_);
	return r;
}

static int put_snapshotters(struct names *n, struct err *err)
{
	const char **v;
	size_t count;
	int r = disk_snapshotters(n->c, &v, &count, err);

	for (size_t i = 0; r == 0 && i < count; i++)
		put_name(n, v[i], "snapshotter");
	return r;
}

static int put_names(struct names *n, struct err *err)
{
	static int (*const lists[])(struct names *, struct err *) = {
		[CTR_NAMES_IMAGES] = put_images,   [CTR_NAMES_CONTAINERS] = put_containers,
		[CTR_NAMES_TASKS] = put_tasks,	   [CTR_NAMES_SNAPSHOTS] = put_snapshots,
		[CTR_NAMES_LEASES] = put_leases,   [CTR_NAMES_NAMESPACES] = put_namespaces,
		[CTR_NAMES_CONTENT] = put_content, [CTR_NAMES_SANDBOXES] = put_sandboxes,
		[CTR_NAMES_PODS] = put_pods,
	};
	struct ctr *c = n->c;
	int r;

	c->ctx.deadline = time_mono() + PATIENCE_NS;
	if (n->k->ns)
		c->ctx.ns = n->k->ns;
	r = client_connect(n->k->address ? n->k->address : ctr_string(c, "address"), 0, &c->client,
			   err);
	if (r < 0)
		return r;
	return n->k->kind == COMPLETE_SNAPSHOTTERS ? put_snapshotters(n, err)
						   : lists[n->k->names](n, err);
}

static int run_complete(struct ctr *c, struct err *err)
{
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct complete k;
	struct names n = {.c = c, .k = &k, .out = &out};
	struct err e = ERR_INIT;
	int r;

	r = complete_scan(c->ctx.arena, &ctr_root, c->args, c->n_args, &k, err);
	if (r < 0)
		return r;
	if (k.kind == COMPLETE_WORDS)
		r = complete_words(&k, &out, err);
	else if (k.kind == COMPLETE_FILES)
		buf_adds(&out, ":files\n");
	else if (k.kind != COMPLETE_NOTHING)
		(void)(put_names(&n, &e) < 0);
	if (r == 0 && out.len)
		fwrite(out.data, 1, out.len, stdout);
	return r;
}

const struct ctr_command cmd_complete = {
	.name = "__complete",
	.usage = "print how the last word may go on",
	.args = "-- [WORD ...]",
	.hidden = true,
	.run = run_complete,
};

/* ---- Scripts ---- */

/* Bash breaks words at ":" and "=", which names have: the words are read off the line instead, and
 * what bash has before the last break is taken off the candidates again. */
static const char bash_script[] =
	"# bash completion for ctr\n"
	"_ctr() {\n"
	"\tlocal line=${COMP_LINE:0:COMP_POINT} cur= IFS=$' \\t\\n' skip reply\n"
	"\tlocal -a words\n"
	"\tread -ra words <<<\"$line\"\n"
	"\tcase $line in *[[:space:]]) words+=('') ;; esac\n"
	"\tcur=${words[${#words[@]}-1]}\n"
	"\tIFS=$'\\n'\n"
	"\tCOMPREPLY=($(\"${words[0]}\" __complete -- \"${words[@]:1}\" 2>/dev/null))\n"
	"\tif [ \"${COMPREPLY[0]-}\" = :files ]; then\n"
	"\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\tCOMPREPLY=($(compgen -f -- \"${cur#--*=}\"))\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tCOMPREPLY=(\"${COMPREPLY[@]%%$'\\t'*}\")\n"
	"\tskip=${cur%\"${cur##*[:=]}\"}\n"
	"\tCOMPREPLY=(\"${COMPREPLY[@]#\"$skip\"}\")\n"
	"\treply=${#COMPREPLY[@]}\n"
	"\t[ \"$reply\" -ne 1 ] || [ -n \"${COMPREPLY[0]}\" ] || COMPREPLY=()\n"
	"}\n"
	"complete -F _ctr ctr\n";

static const char zsh_script[] =
	"#compdef ctr\n"
	"_ctr() {\n"
	"\tlocal -a lines candidates\n"
	"\tlocal line\n"
	"\tlines=(\"${(@f)$(\"${words[1]}\" __complete -- \"${(@Q)words[2,CURRENT]}\" "
	"2>/dev/null)}\")\n"
	"\tif [[ ${lines[1]} == :files ]]; then\n"
	"\t\t[[ $PREFIX == --*=* ]] && compset -P '*='\n"
	"\t\t_files\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tfor line in \"${lines[@]}\"; do\n"
	"\t\t[[ -n $line ]] && candidates+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
	"\tdone\n"
	"\t(( ${#candidates} )) && _describe -t ctr ctr candidates\n"
	"}\n"
	"if [[ ${funcstack[1]} == _ctr ]]; then\n"
	"\t_ctr \"$@\"\n"
	"else\n"
	"\tcompdef _ctr ctr\n"
	"fi\n";

static const char fish_script[] =
	"# fish completion for ctr\n"
	"function __ctr_complete\n"
	"\tset -l words (commandline -opc)\n"
	"\tset -l last (commandline -ct)\n"
	"\tset -l lines ($words[1] __complete -- $words[2..-1] \"$last\" 2>/dev/null)\n"
	"\tif test \"$lines[1]\" = :files\n"
	"\t\t__fish_complete_path \"$last\"\n"
	"\telse if set -q lines[1]\n"
	"\t\tprintf '%s\\n' $lines\n"
	"\tend\n"
	"end\n"
	"complete -c ctr -f -a '(__ctr_complete)'\n";

static int run_completion(struct ctr *c, struct err *err)
{
	const char *shell = ctr_arg(c, 0);

	if (streq(shell, "bash"))
		fputs(bash_script, stdout);
	else if (streq(shell, "zsh"))
		fputs(zsh_script, stdout);
	else if (streq(shell, "fish"))
		fputs(fish_script, stdout);
	else
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "completion for which shell? bash, zsh or fish");
	return 0;
}

const struct ctr_command cmd_completion = {
	.name = "completion",
	.usage = "print a shell's completion script",
	.args = "bash|zsh|fish",
	.description = "   For one session: source <(ctr completion bash); ctr completion fish | "
		       "source. Packages install the scripts.",
	.run = run_completion,
};
