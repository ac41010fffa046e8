/* SPDX-License-Identifier: Apache-2.0 */
/* Pulls an image, runs a command in a container of it, prints its output, and exits with its exit
 * code.
 *
 *     cc -o run run.c $(pkg-config --cflags --libs libcontainerd-client)
 *     ./run [-a ADDRESS] [-n NAMESPACE] [-p] IMAGE ID [COMMAND] [ARG...]
 *
 * -p speaks HTTP with the registry. The image stays, the container is removed. */
#include <containerd/client.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct arguments {
	const char *address, *ns, *image, *id;
	const char *const *command;
	size_t n_command;
	int plain_http;
};

static int fail(const char *what, const struct containerd_error *error)
{
	fprintf(stderr, "run: %s: %s\n", what, error->text);
	return 125;
}

/* Bytes come again and again; only what changes is worth a line. */
static int show(void *arg, const struct containerd_progress *p)
{
	char *last = arg;

	if (*p->name == '\0' && strcmp(last, p->event) != 0) {
		fprintf(stderr, "%s\n", p->event);
		snprintf(last, 128, "%s", p->event);
	}
	return 0; /* anything else would cancel the pull */
}

static int pull(struct containerd_client *client, const struct arguments *a)
{
	struct containerd_pull_options o = CONTAINERD_INIT(struct containerd_pull_options);
	const struct containerd_image *image;
	struct containerd_error error;
	char last[128] = "";

	o.plain_http = a->plain_http;
	o.progress = show;
	o.progress_arg = last;
	if (containerd_image_pull(client, a->image, &o, &image, &error) < 0)
		return fail("pull", &error);
	fprintf(stderr, "%s is %s\n", image->name, image->digest);
	containerd_free(image);
	return 0;
}

/* Starts what was created, waits for it, and removes it: then all its output has been written. */
static int run_process(struct containerd_process *process)
{
	struct containerd_error error;
	uint32_t status = 0;

	if (containerd_process_start(process, NULL, &error) < 0 ||
	    containerd_process_wait(process, -1, &status, &error) < 0) {
		fail("start", &error);
		if (containerd_process_remove(process, 1, NULL, &error) < 0)
			fail("remove the task", &error);
		return 125;
	}
	if (containerd_process_remove(process, 0, NULL, &error) < 0)
		return fail("remove the task", &error);
	return (int)status;
}

static int run_container(struct containerd_client *client, const struct arguments *a)
{
	struct containerd_container_options o =
		CONTAINERD_INIT(struct containerd_container_options);
	struct containerd_streams streams = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
	struct containerd_process *process;
	struct containerd_error error;
	int status;

	o.image = a->image;
	o.args = a->command;
	o.n_args = a->n_command;
	if (containerd_container_create(client, a->id, &o, &error) < 0)
		return fail("create the container", &error);
	if (containerd_task_create(client, a->id, &streams, &process, &error) < 0) {
		status = fail("create the task", &error);
	} else {
		status = run_process(process);
		containerd_process_free(process);
	}
	if (containerd_container_remove(client, a->id, 0, &error) < 0)
		return fail("remove the container", &error);
	return status;
}

static int parse(int argc, char **argv, struct arguments *a)
{
	int c;

	while ((c = getopt(argc, argv, "+a:n:p")) != -1) {
		if (c == 'a')
			a->address = optarg;
		else if (c == 'n')
			a->ns = optarg;
		else if (c == 'p')
			a->plain_http = 1;
		else
			return -1;
	}
	if (argc - optind < 2)
		return -1;
	a->image = argv[optind];
	a->id = argv[optind + 1];
	a->command = (const char *const *)argv + optind + 2;
	a->n_command = (size_t)(argc - optind - 2);
	return 0;
}

int main(int argc, char **argv)
{
	struct containerd_client *client;
	struct containerd_error error;
	struct arguments a = {0};
	int status;

	if (parse(argc, argv, &a) < 0) {
		fprintf(stderr,
			"usage: %s [-a ADDRESS] [-n NAMESPACE] [-p] IMAGE ID [COMMAND]...\n",
			argv[0]);
		return 125;
	}
	if (containerd_connect(a.address, a.ns, 5000, &client, &error) < 0)
		return fail("connect", &error);
	status = pull(client, &a);
	if (status == 0)
		status = run_container(client, &a);
	containerd_client_free(client);
	return status;
}
