/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a container's control group, the processes in it, and the interfaces of a network
 * namespace.
 *
 * A group is found from one of its processes: that is where it truly is, whatever driver made it
 * and whatever the daemon's own place in the hierarchy. A process may have moved itself further
 * down (an init system in the container does), so the path is cut after the container's own part.
 */
#include "cri/sample.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#define NETDEV_MAX (1u << 20)
#define INTERFACES_MAX 4096
#define DEPTH_MAX 32

char *cri_cgroup_leaf(struct arena *a, const char *cgroups_path)
{
	const char *prefix = strchr(cgroups_path, ':'),
		   *name = prefix ? strchr(prefix + 1, ':') : NULL;

	if (!name || strchr(cgroups_path, '/'))
		return arena_strdup(a, path_base(cgroups_path));
	prefix++;
	name++;
	if (str_has_suffix(name, ".slice"))
		return arena_strdup(a, name);
	if (name - prefix == 1)
		return arena_printf(a, "%s.scope", name);
	return arena_printf(a, "%.*s-%s.scope", (int)(name - prefix - 1), prefix, name);
}

/* In a scope of systemd's, crun makes one group more, and sets some limits only there. */
static const char *inner_stop(const char *leaf, const char *stop, const char *end)
{
	static const char inner[] = "/container";
	size_t n = sizeof(inner) - 1, left = (size_t)(end - stop);

	if (!str_has_suffix(leaf, ".scope") || left < n || memcmp(stop, inner, n) != 0 ||
	    (left > n && stop[n] != '/'))
		return stop;
	return stop + n;
}

/* Length of @path (up to @end) with @leaf as its last component; 0 when it is not among them. */
static size_t cut_after(const char *path, const char *end, const char *leaf)
{
	size_t n = strlen(leaf);

	for (const char *p = path; p < end;) {
		const char *slash = memchr(p, '/', (size_t)(end - p)), *stop = slash ? slash : end;
		if (n && (size_t)(stop - p) == n && memcmp(p, leaf, n) == 0)
			return (size_t)(inner_stop(leaf, stop, end) - path);
		p = slash ? slash + 1 : end;
	}
	return 0;
}

int cri_cgroup_locate(struct arena *a, const char *text, const char *mountinfo, const char *leaf,
		      struct cgroup_dirs *ret)
{
	char *cut = arena_alloc(a, strlen(text) + 1), *at = cut;

	if (!cut)
		return -ENOMEM;
	for (const char *line = text; *line;) {
		const char *end = strchrnul(line, '\n'), *c1, *path;
		size_t n = 0;

		c1 = memchr(line, ':', (size_t)(end - line));
		path = c1 ? memchr(c1 + 1, ':', (size_t)(end - c1 - 1)) : NULL;
		if (path)
			n = cut_after(path + 1, end, leaf);
		if (n) {
			n += (size_t)(path + 1 - line);
			memcpy(at, line, n);
			at += n;
			*at++ = '\n';
		}
		line = *end ? end + 1 : end;
	}
	*at = '\0';
	return *cut ? cgroup_dirs_parse(a, cut, mountinfo, ret) : -ENOENT;
}

/* ---- processes ---- */

struct walk {
	void (*fn)(int pid, void *arg);
	void *arg;
	size_t n;
};

static void procs_read(int dirfd, struct walk *w)
{
	_cleanup_close_ int fd = openat(dirfd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	char buf[4096];
	int pid = 0;
	ssize_t n;

	if (fd < 0)
		return;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] >= '0' && buf[i] <= '9' && pid < 100000000) {
				pid = pid * 10 + (buf[i] - '0');
				continue;
			}
			w->n += pid > 0;
			if (pid > 0 && w->fn)
				w->fn(pid, w->arg);
			pid = 0;
		}
}

/* Takes @dirfd over. */
static void procs_walk(int dirfd, int depth, struct walk *w)
{
	struct stat st;

	procs_read(dirfd, w);
	/* A directory's links tell how many are in it: most groups have none below them. */
	if (depth == DEPTH_MAX || fstat(dirfd, &st) < 0 || st.st_nlink == 2) {
		close(dirfd);
		return;
	}
	_cleanup_closedir_ DIR *d = fdopendir(dirfd);
	if (!d) {
		close(dirfd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.' || e->d_type != DT_DIR)
			continue;
		int fd = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			procs_walk(fd, depth + 1, w);
	}
}

size_t cri_cgroup_processes(const struct cgroup_dirs *d, void (*fn)(int pid, void *arg), void *arg)
{
	static const enum cgroup_controller order[] = {CGROUP_PIDS, CGROUP_MEMORY, CGROUP_CPUACCT,
						       CGROUP_CPU};
	struct walk w = {fn, arg, 0};
	const char *dir = d->unified ? d->dir : NULL;

	for (size_t i = 0; !d->unified && !dir && i < ARRAY_LEN(order); i++)
		dir = d->v1[order[i]];
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd >= 0)
		procs_walk(fd, 0, &w);
	return w.n;
}

/* ---- networks ---- */

/* "  eth0: RX: bytes packets errs drop fifo frame compressed multicast TX: bytes packets errs drop
 * fifo colls carrier compressed" */
static bool netdev_line(char *line, struct cri_netdev *ret)
{
	unsigned long long v[12];
	char *colon = strrchr(line, ':');

	if (!colon)
		return false;
	*colon = '\0';
	ret->name = line + strspn(line, " ");
	if (sscanf(colon + 1, "%llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0],
		   &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10],
		   &v[11]) != 12)
		return false;
	ret->rx_bytes = v[0];
	ret->rx_packets = v[1];
	ret->rx_errors = v[2];
	ret->rx_dropped = v[3];
	ret->tx_bytes = v[8];
	ret->tx_packets = v[9];
	ret->tx_errors = v[10];
	ret->tx_dropped = v[11];
	return *ret->name && !streq(ret->name, "lo");
}

int cri_netdev_parse(struct arena *a, char *text, struct cri_netdev **ret, size_t *ret_n)
{
	struct cri_netdev *v = NULL, d;
	size_t n = 0, cap = 0;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line && n < INTERFACES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		if (!netdev_line(line, &d))
			continue;
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		v[n++] = d;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

int cri_netdev_read(struct arena *a, uint32_t pid, struct cri_netdev **ret, size_t *ret_n)
{
	char path[40], *text;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%u/net/dev", pid);
	int r = file_read(a, AT_FDCWD, path, NETDEV_MAX, &text, &n);
	return r < 0 ? r : cri_netdev_parse(a, text, ret, ret_n);
}
