/* SPDX-License-Identifier: Apache-2.0 */
/* ctr run: containers create and tasks start in one, and with --rm their undoing. */
#include "ctr/commands.h"
#include "ctr/create.h"
#include "ctr/network.h"
#include "ctr/task.h"

static const struct ctr_flag run_flags[] = {
	{"rm", 0, CTR_BOOL, "remove the container after it has run; not with --detach"},
	{"null-io", 0, CTR_BOOL, "connect the process's streams to nothing"},
	{"log-uri", 0, CTR_STRING, "where the output goes (file:///path, binary:///path)"},
	{"detach", 'd', CTR_BOOL, "do not stay after the start; not with --rm"},
	{"fifo-dir", 0, CTR_STRING, "directory for the FIFOs of the streams"},
	{"cgroup", 0, CTR_STRING, "path of the cgroup; \"\" for none"},
	{"platform", 0, CTR_STRING, "run the image for this platform"},
	{"cni", 0, CTR_BOOL, "set up the network with CNI"},
	{"sync-fs", 0, CTR_BOOL, "sync the file system after a layer was unpacked"},
	{"dump-config", 0, CTR_STRING, "write the runtime spec to this file"},
	{"uidmap", 0, CTR_STRINGS, "run in a user namespace with these user ids", NULL, NULL,
	 "container-uid:host-uid:length"},
	{"gidmap", 0, CTR_STRINGS, "run in a user namespace with these group ids", NULL, NULL,
	 "container-gid:host-gid:length"},
	{"remap-labels", 0, CTR_BOOL,
	 "leave the mapping of the files' owners to the snapshotter, by labels"},
	{"privileged-without-host-devices", 0, CTR_BOOL,
	 "with --privileged: without the host's devices"},
	{"cpus", 0, CTR_FLOAT, "number of CPUs that may be used"},
	{"cpu-shares", 0, CTR_INT, "weight against other containers", "1024"},
	{"cpuset-cpus", 0, CTR_STRING, "CPUs to run on (0-2, 0,1)"},
	{"cpuset-mems", 0, CTR_STRING, "memory nodes to use"},
	{"rlimit-nofile", 0, CTR_STRING, "limit of open files, soft:hard"},
	{}};

struct connector {
	struct ctr *c;
	struct network network;
};

static int connect_network(void *arg, uint32_t pid, struct err *err)
{
	struct connector *k = arg;

	return network_attach(k->c, &k->network, pid, err);
}

static int run_container(struct ctr *c, const struct create *k, struct connector *network,
			 struct err *err)
{
	struct task_options o;

	task_options_from_flags(c, &o);
	o.terminal = k->terminal;
	o.io_uid = k->io_uid;
	o.io_gid = k->io_gid;
	o.rootfs = &k->mounts;
	if (network) {
		o.created = connect_network;
		o.created_arg = network;
	}
	return task_run(c, k->id, &o, err);
}

/* With --cni the configuration is read before anything is made, and the container is detached when
 * it has ended; one that stays is by `containers rm`. */
static int run_connected(struct ctr *c, const struct create *k, struct connector *network,
			 struct err *err)
{
	int r;

	if (!ctr_bool(c, "cni"))
		return run_container(c, k, NULL, err);
	r = run_container(c, k, network, err);
	if (r < 0 || !ctr_bool(c, "detach"))
		network_detach(c, &network->network);
	return r;
}

static int check_network(struct ctr *c, const char *id, struct network *ret, struct err *err)
{
	if (!ctr_bool(c, "cni"))
		return 0;
	if (ctr_bool(c, "net-host"))
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "flags --cni and --net-host cannot be specified together");
	return network_load(c, id, ret, err);
}

static int run_run(struct ctr *c, struct err *err)
{
	bool rm = ctr_bool(c, "rm"), detach = ctr_bool(c, "detach");
	struct err e = ERR_INIT;
	struct connector network = {.c = c};
	struct create k = {};
	int r;

	if (rm && detach)
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "flags --detach and --rm cannot be specified together");
	r = create_args(c, &k, err);
	if (r == 0 && ctr_bool(c, "tty") && !detach && !ctr_bool(c, "null-io"))
		r = client_io_check_terminal(err);
	if (r == 0)
		r = check_network(c, k.id, &network.network, err);
	if (r == 0)
		task_announce();
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = create_container(c, &k, err);
	if (r == 0) {
		r = run_connected(c, &k, &network, err);
		c->ctx.deadline = 0; /* cleaning up has its own time */
		if (rm && create_undo(c, &k, &e) < 0 && e.kind != ERR_UNAVAILABLE)
			ctr_warn("remove the container: %s", e.text);
	}
	create_done(c, &k);
	network_done(&network.network);
	return r;
}

const struct ctr_command cmd_run = {
	.name = "run",
	.usage = "run a container",
	.args = "[flags] Image|RootFS ID [COMMAND] [ARG...]",
	.flags = CTR_FLAGS(runtime_flags, container_flags, run_flags),
	.names = CTR_NAMES_IMAGES,
	.run = run_run,
};
