/* SPDX-License-Identifier: Apache-2.0 */
/* Every function of the client library against a daemon: `client_library ADDRESS IMAGE DIR`. What
 * is not as it should be ends it with its line. Compiled by test_client_library.py. */
#include <containerd/client.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct containerd_error error;

#define CHECK(condition)                                                                   \
	do {                                                                               \
		if (!(condition)) {                                                        \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
				error.text);                                               \
			exit(1);                                                           \
		}                                                                          \
	} while (0)
#define OK(call) CHECK((call) == 0)
#define FAILS(call, code_)                    \
	do {                                  \
		int r_ = (call);              \
		CHECK(r_ == -(code_));        \
		CHECK(error.code == (code_)); \
		CHECK(*error.text);           \
	} while (0)

static const char *image_name;
static const char *dir;

static void test_namespaces(struct containerd_client *c)
{
	struct containerd_label l = {"k", "v"};
	const struct containerd_namespaces *all;
	const struct containerd_version *v;
	int found = 0;

	OK(containerd_version_get(c, &v, &error));
	CHECK(*v->version && strlen(containerd_library_version()) > 4);
	containerd_free(v);
	OK(containerd_namespace_create(c, "lib-ns", &l, 1, &error));
	FAILS(containerd_namespace_create(c, "lib-ns", NULL, 0, &error), CONTAINERD_ALREADY_EXISTS);
	OK(containerd_namespace_list(c, &all, &error));
	for (size_t i = 0; i < all->n; i++)
		if (!strcmp(all->v[i]->name, "lib-ns"))
			found = all->v[i]->n_labels == 1 &&
				!strcmp(all->v[i]->labels[0].value, "v");
	CHECK(found);
	containerd_free(all);
	OK(containerd_namespace_remove(c, "lib-ns", &error));
	FAILS(containerd_namespace_remove(c, "lib-ns", &error), CONTAINERD_NOT_FOUND);
}

static int cancel(void *arg, const struct containerd_progress *p)
{
	(void)p;
	++*(int *)arg;
	return 1;
}

static void test_images(struct containerd_client *c)
{
	struct containerd_pull_options o = CONTAINERD_INIT(struct containerd_pull_options);
	const char *filter[] = {"name==lib/copy:1"};
	const struct containerd_images *all;
	const struct containerd_image *i, *copy;
	const struct containerd_texts *names;
	char path[256];
	int calls = 0, fd;

	o.plain_http = 1;
	FAILS(containerd_image_pull(c, "busybox", &o, NULL, &error), CONTAINERD_INVALID_ARGUMENT);
	o.progress = cancel;
	o.progress_arg = &calls;
	FAILS(containerd_image_pull(c, image_name, &o, NULL, &error), CONTAINERD_CANCELED);
	CHECK(calls == 1);
	o.progress = NULL;
	OK(containerd_image_pull(c, image_name, &o, &i, &error));
	OK(containerd_image_tag(c, image_name, "lib/copy:1", 0, &error));
	FAILS(containerd_image_tag(c, image_name, "lib/copy:1", 0, &error),
	      CONTAINERD_ALREADY_EXISTS);
	OK(containerd_image_tag(c, image_name, "lib/copy:1", 1, &error));
	OK(containerd_image_list(c, filter, 1, &all, &error));
	CHECK(all->n == 1 && !strcmp(all->v[0]->digest, i->digest));
	containerd_free(all);
	snprintf(path, sizeof(path), "%s/archive", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	OK(containerd_image_export(c, fd, (const char *[]){"lib/copy:1"}, 1, NULL, &error));
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	OK(containerd_image_remove(c, "lib/copy:1", 1, &error));
	FAILS(containerd_image_get(c, "lib/copy:1", &copy, &error), CONTAINERD_NOT_FOUND);
	OK(containerd_image_import(c, fd, NULL, &names, &error));
	close(fd);
	CHECK(names->n == 1);
	OK(containerd_image_get(c, names->v[0], &copy, &error));
	CHECK(!strcmp(copy->digest, i->digest) && copy->created_s > 1700000000);
	OK(containerd_image_remove(c, copy->name, 0, &error));
	containerd_free(names);
	containerd_free(copy);
	containerd_free(i);
}

static void test_content(struct containerd_client *c)
{
	struct containerd_client_options o = CONTAINERD_INIT(struct containerd_client_options);
	const struct containerd_lease *lease;
	const struct containerd_leases *leases;
	const struct containerd_contents *all;
	const struct containerd_text *digest;
	const struct containerd_blob *blob;
	struct containerd_client *leased;
	struct containerd_writer *w;
	int fds[2];
	char b[16] = "";

	OK(containerd_lease_create(c, NULL, 600, &lease, &error));
	CHECK(lease->n_labels == 1);
	OK(containerd_lease_list(c, &leases, &error));
	CHECK(leases->n == 1 && !strcmp(leases->v[0]->id, lease->id));
	containerd_free(leases);
	o.lease = lease->id;
	OK(containerd_client_derive(c, &o, &leased, &error));
	OK(containerd_writer_open(leased, "lib-ref", &w, &error));
	OK(containerd_writer_write(w, "hello ", 6, &error));
	OK(containerd_writer_write(w, "world", 5, &error));
	OK(containerd_writer_commit(w, NULL, 0, &digest, &error));
	FAILS(containerd_writer_commit(w, NULL, 0, NULL, &error), CONTAINERD_FAILED_PRECONDITION);
	containerd_writer_free(w);
	OK(containerd_content_read(c, digest->text, 100, &blob, &error));
	CHECK(blob->len == 11 && !memcmp(blob->data, "hello world", 12));
	containerd_free(blob);
	FAILS(containerd_content_read(c, digest->text, 5, &blob, &error),
	      CONTAINERD_RESOURCE_EXHAUSTED);
	CHECK(pipe(fds) == 0);
	OK(containerd_content_copy(c, digest->text, fds[1], &error));
	CHECK(read(fds[0], b, sizeof(b)) == 11 && !memcmp(b, "hello world", 11));
	close(fds[0]);
	close(fds[1]);
	OK(containerd_content_list(c, NULL, 0, &all, &error));
	CHECK(all->n > 3);
	containerd_free(all);
	/* A lease is all that keeps it. */
	OK(containerd_lease_remove(c, lease->id, 1, &error));
	FAILS(containerd_content_read(c, digest->text, 100, &blob, &error), CONTAINERD_NOT_FOUND);
	FAILS(containerd_content_remove(c, digest->text, &error), CONTAINERD_NOT_FOUND);
	containerd_client_free(leased);
	containerd_free(digest);
	containerd_free(lease);
}

static void test_snapshots(struct containerd_client *c)
{
	struct containerd_label root = {"containerd.io/gc.root", "now"};
	const struct containerd_mounts *m, *again;
	const struct containerd_snapshots *all;
	struct containerd_usage usage = {-1, -1};
	int found = 0;

	OK(containerd_snapshot_prepare(c, NULL, "lib-a", NULL, 0, &root, 1, &m, &error));
	CHECK(m->n == 1 && *m->v[0].source);
	OK(containerd_snapshot_mounts(c, NULL, "lib-a", &again, &error));
	CHECK(again->n == 1 && !strcmp(m->v[0].source, again->v[0].source));
	containerd_free(m);
	containerd_free(again);
	OK(containerd_snapshot_commit(c, NULL, "lib-b", "lib-a", &root, 1, &error));
	OK(containerd_snapshot_prepare(c, NULL, "lib-c", "lib-b", 1, &root, 1, NULL, &error));
	OK(containerd_snapshot_list(c, NULL, &all, &error));
	for (size_t i = 0; i < all->n; i++) {
		found += !strcmp(all->v[i]->key, "lib-b") &&
			 all->v[i]->kind == CONTAINERD_SNAPSHOT_COMMITTED;
		found += !strcmp(all->v[i]->key, "lib-c") &&
			 all->v[i]->kind == CONTAINERD_SNAPSHOT_VIEW &&
			 !strcmp(all->v[i]->parent, "lib-b");
	}
	CHECK(found == 2);
	containerd_free(all);
	OK(containerd_snapshot_usage(c, NULL, "lib-b", &usage, &error));
	CHECK(usage.bytes >= 0 && usage.inodes >= 1);
	FAILS(containerd_snapshot_remove(c, NULL, "lib-b", &error), CONTAINERD_FAILED_PRECONDITION);
	OK(containerd_snapshot_remove(c, NULL, "lib-c", &error));
	OK(containerd_snapshot_remove(c, NULL, "lib-b", &error));
}

static void *kill_soon(void *arg)
{
	struct containerd_process *p = arg;

	return (void *)(intptr_t)containerd_process_kill(p, SIGTERM, 0, NULL);
}

/* A sleeping container with what the options can say. */
static void make_container(struct containerd_client *c)
{
	struct containerd_container_options o =
		CONTAINERD_INIT(struct containerd_container_options);
	const char *options[] = {"rbind", "ro"};
	struct containerd_mount m = {"bind", dir, "/given", options, 2};
	struct containerd_label l = {"who", "lib"};
	const char *env[] = {"A=b"},
		   *args[] = {"sh", "-c", "trap 'exit 7' TERM; sleep 1000 & wait"};
	const struct containerd_containers *all;
	const struct containerd_container *k;
	const char *filter[] = {"labels.who==lib"};

	o.image = image_name;
	o.args = args;
	o.n_args = 3;
	o.env = env;
	o.n_env = 1;
	o.mounts = &m;
	o.n_mounts = 1;
	o.labels = &l;
	o.n_labels = 1;
	o.hostname = "lib-host";
	o.memory_limit = 64 << 20;
	o.read_only = 1;
	OK(containerd_container_create(c, "lib-c", &o, &error));
	FAILS(containerd_container_create(c, "lib-c", &o, &error), CONTAINERD_ALREADY_EXISTS);
	OK(containerd_container_list(c, filter, 1, &all, &error));
	CHECK(all->n == 1 && !strcmp(all->v[0]->id, "lib-c"));
	containerd_free(all);
	OK(containerd_container_get(c, "lib-c", &k, &error));
	CHECK(strstr(k->spec, "\"A=b\"") && !strcmp(k->image, image_name));
	/* The same spec makes a container of its own. */
	o = (struct containerd_container_options)CONTAINERD_INIT(
		struct containerd_container_options);
	o.image = image_name;
	o.spec = k->spec;
	OK(containerd_container_create(c, "lib-d", &o, &error));
	o.args = args;
	FAILS(containerd_container_create(c, "lib-e", &o, &error), CONTAINERD_INVALID_ARGUMENT);
	OK(containerd_container_remove(c, "lib-d", 0, &error));
	containerd_free(k);
}

static void test_exec(struct containerd_client *c)
{
	struct containerd_exec_options o = CONTAINERD_INIT(struct containerd_exec_options);
	const char *args[] = {"sh", "-c",
			      "cat; echo $A $B $(hostname) $(ls /given | tail -1); exit 3"};
	const char *env[] = {"B=c"};
	struct containerd_process *p;
	int in[2], out[2];
	char b[256] = "";
	uint32_t status;
	ssize_t n;

	CHECK(pipe(in) == 0 && pipe(out) == 0);
	o.args = args;
	o.n_args = 3;
	o.env = env;
	o.n_env = 1;
	OK(containerd_task_exec(c, "lib-c", "x", &o,
				&(struct containerd_streams){in[0], out[1], -1}, &p, &error));
	CHECK(write(in[1], "in\n", 3) == 3);
	close(in[1]);
	OK(containerd_process_start(p, NULL, &error));
	OK(containerd_process_wait(p, -1, &status, &error));
	CHECK(status == 3);
	OK(containerd_process_remove(p, 0, NULL, &error));
	containerd_process_free(p);
	n = read(out[0], b, sizeof(b) - 1);
	snprintf(error.text, sizeof(error.text), "got \"%s\"", b);
	CHECK(n > 0 && !strcmp(b, "in\nb c lib-host marker\n"));
	close(in[0]);
	close(out[0]);
	close(out[1]);
}

static void test_tasks(struct containerd_client *c)
{
	struct containerd_process *p, *q;
	const struct containerd_tasks *all;
	const struct containerd_text *text;
	const struct containerd_pids *pids;
	pthread_t thread;
	uint32_t pid = 0, status = 0;
	void *killed;

	make_container(c);
	OK(containerd_task_create(c, "lib-c", NULL, &p, &error));
	OK(containerd_process_start(p, &pid, &error));
	CHECK(pid > 1);
	FAILS(containerd_process_wait(p, 50, &status, &error), CONTAINERD_DEADLINE_EXCEEDED);
	OK(containerd_task_list(c, &all, &error));
	CHECK(all->n == 1 && all->v[0]->pid == pid &&
	      all->v[0]->status == CONTAINERD_STATUS_RUNNING && !strcmp(all->v[0]->id, "lib-c"));
	containerd_free(all);
	OK(containerd_task_pids(c, "lib-c", &pids, &error));
	CHECK(pids->n >= 1 && pids->v[0] > 1);
	containerd_free(pids);
	OK(containerd_task_metrics(c, "lib-c", &text, &error));
	CHECK(text->text[0] == '{' && strstr(text->text, "memory"));
	containerd_free(text);
	test_exec(c);
	OK(containerd_task_pause(c, "lib-c", &error));
	OK(containerd_task_resume(c, "lib-c", &error));
	FAILS(containerd_process_remove(p, 0, NULL, &error), CONTAINERD_FAILED_PRECONDITION);
	FAILS(containerd_container_remove(c, "lib-c", 0, &error), CONTAINERD_FAILED_PRECONDITION);
	OK(containerd_process_open(c, "lib-c", NULL, &q, &error));
	CHECK(pthread_create(&thread, NULL, kill_soon, p) == 0);
	OK(containerd_process_wait(q, 30000, &status, &error));
	CHECK(status == 7);
	pthread_join(thread, &killed);
	CHECK(!killed);
	containerd_process_free(q);
	OK(containerd_process_wait(p, -1, &status, &error));
	CHECK(status == 7);
	status = 0;
	OK(containerd_process_remove(p, 0, &status, &error));
	CHECK(status == 7);
	FAILS(containerd_process_kill(p, SIGTERM, 0, &error), CONTAINERD_NOT_FOUND);
	containerd_process_free(p);
	FAILS(containerd_process_open(c, "lib-c", NULL, &q, &error), CONTAINERD_NOT_FOUND);
	OK(containerd_container_remove(c, "lib-c", 0, &error));
}

static atomic_int events, ends;

static void on_event(void *arg, const struct containerd_event *e,
		     const struct containerd_error *end)
{
	(void)arg;
	if (!e) {
		ends += end ? 100 : 1;
		return;
	}
	if (!strcmp(e->topic, "/namespaces/create") && strstr(e->event, "lib-event") &&
	    e->time_s > 0)
		events++;
}

static void test_events(struct containerd_client *c)
{
	struct containerd_subscription *s;
	const char *filter[] = {"topic~=\"/namespaces/\""};

	OK(containerd_events_subscribe(c, filter, 1, on_event, NULL, &s, &error));
	/* Whether the daemon listens already is not known: again until one comes. */
	while (!events) {
		OK(containerd_namespace_create(c, "lib-event", NULL, 0, &error));
		OK(containerd_namespace_remove(c, "lib-event", &error));
	}
	containerd_subscription_free(s);
	CHECK(ends == 1);
}

static void *hammer(void *arg)
{
	const struct containerd_images *all;

	for (int i = 0; i < 50; i++) {
		if (containerd_image_list(arg, NULL, 0, &all, NULL) < 0)
			return arg;
		containerd_free(all);
	}
	return NULL;
}

static void test_threads(struct containerd_client *c)
{
	pthread_t t[8];
	void *failed;

	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&t[i], NULL, hammer, c) == 0);
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], &failed);
		CHECK(!failed);
	}
}

static void test_growth(struct containerd_client *c)
{
	struct {
		struct containerd_client_options o;
		char more;
	} newer = {.o = {.size = sizeof(newer)}};
	struct containerd_client_options none = {0};
	struct containerd_client *d;

	OK(containerd_client_derive(c, &newer.o, &d, &error));
	containerd_client_free(d);
	newer.more = 1;
	FAILS(containerd_client_derive(c, &newer.o, &d, &error), CONTAINERD_INVALID_ARGUMENT);
	FAILS(containerd_client_derive(c, &none, &d, &error), CONTAINERD_INVALID_ARGUMENT);
	none.size = offsetof(struct containerd_client_options, timeout_ms);
	OK(containerd_client_derive(c, &none, &d, &error));
	containerd_client_free(d);
}

int main(int argc, char **argv)
{
	struct containerd_client *c;

	CHECK(argc == 4);
	image_name = argv[2];
	dir = argv[3];
	FAILS(containerd_connect("/nowhere/c.sock", NULL, 0, &c, &error), CONTAINERD_UNAVAILABLE);
	OK(containerd_connect(argv[1], "lib", 0, &c, &error));
	test_growth(c);
	test_namespaces(c);
	test_images(c);
	test_content(c);
	test_snapshots(c);
	test_tasks(c);
	test_events(c);
	test_threads(c);
	OK(containerd_image_remove(c, image_name, 1, &error));
	containerd_client_free(c);
	puts("all is well");
	return 0;
}
