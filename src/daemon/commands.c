/* SPDX-License-Identifier: Apache-2.0 */
/* `containerd publish` and `containerd oci-hook`: see commands.h. */
#include "daemon/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "client/client.h"
#include "daemon/hook_template.h"

#define INPUT_MAX (4u << 20)
#define SPEC_MAX (16u << 20)
#define PUBLISH_NS (10 * NSEC_PER_SEC)

extern char **environ;

/* ---- publish ---- */

static int publish_args(char **args, const char **ret_ns, const char **ret_topic, struct err *err)
{
	static const struct option known[] = {{"namespace", required_argument, NULL, 'n'},
					      {"topic", required_argument, NULL, 't'},
					      {0}};
	int argc = 1, c;

	while (args[argc - 1])
		argc++;
	optind = 1;
	/* What stands before the arguments is the command's name. */
	while ((c = getopt_long_only(argc, args - 1, "+", known, NULL)) != -1) {
		if (c == 'n')
			*ret_ns = optarg;
		else if (c == 't')
			*ret_topic = optarg;
		else
			return err_set_raw(err, ERR_INVALID_ARGUMENT,
					   "publish [--namespace NAMESPACE] [--topic TOPIC]");
	}
	return 0;
}

int command_publish(const char *address, char **args, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_(client_freep) struct client *c = NULL;
	PB_EVENTS(PublishRequest) req = PB_EVENTS_INIT(PUBLISH_REQUEST);
	const char *ns = "", *topic = "";
	struct ctx ctx = {.arena = a, .lease = ""};
	char *in;
	size_t n;
	int r = a ? publish_args(args, &ns, &topic, err) : err_nomem(err);

	if (r == 0 && !*topic)
		r = err_set(err, ERR_INVALID_ARGUMENT, "topic required to publish event");
	if (r < 0)
		return r;
	r = fd_read_all(a, STDIN_FILENO, INPUT_MAX, &in, &n);
	if (r < 0)
		return err_errno(err, r, "read standard input");
	r = rpc_unpack(a, &google__protobuf__any__descriptor, in, n, &req.event, err);
	if (r == 0)
		r = client_connect(address, 0, &c, err);
	if (r < 0)
		return r;
	req.topic = (char *)topic;
	ctx.ns = ns;
	ctx.deadline = time_mono() + PUBLISH_NS;
	return client_call(c, &ctx, PB_EVENTS_SERVICE, "Publish", &req.base, NULL, err);
}

/* ---- oci-hook ---- */

static int list_render(struct arena *a, char **list, const json_t *state, const json_t *spec,
		       char ***ret, struct err *err)
{
	size_t n = 0;

	while (list[n])
		n++;
	*ret = arena_new_array(a, char *, n + 1);
	if (!*ret)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		const char *text;
		int r = hook_template_render(a, list[i], state, spec, &text, err);

		if (r < 0)
			return r;
		(*ret)[i] = (char *)text;
	}
	return 0;
}

int command_oci_hook(char **args, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_json_ json_t *state = NULL;
	_cleanup_json_ json_t *spec = NULL;
	char *text, *path, **argv, **env;
	size_t n;
	int r = a ? fd_read_all(a, STDIN_FILENO, INPUT_MAX, &text, &n) : -ENOMEM;

	if (r < 0)
		return err_errno(err, r, "read standard input");
	if (args[0] && streq(args[0], "--"))
		args++;
	if (!args[0])
		return err_set(err, ERR_INVALID_ARGUMENT, "no command given");
	r = json_parse(text, n, &state, err);
	if (r < 0)
		return err_prefix(err, "the container's state");
	path = path_join(a, json_str(state, "bundle", ""), "config.json");
	if (!path)
		return err_nomem(err);
	r = file_read(a, AT_FDCWD, path, SPEC_MAX, &text, &n);
	if (r < 0)
		return err_errno(err, r, "read `%s`", path);
	r = json_parse(text, n, &spec, err);
	if (r < 0)
		return err_prefix(err, "`%s`", path);
	r = list_render(a, args, state, spec, &argv, err);
	if (r == 0)
		r = list_render(a, environ, state, spec, &env, err);
	if (r < 0)
		return r;
	execve(argv[0], argv, env);
	return err_errno(err, errno, "run `%s`", argv[0]);
}
