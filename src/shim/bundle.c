/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define CONFIG_MAX (16u << 20)

struct mapping {
	void *p;
	size_t n;
};

static void mapping_done(struct mapping *m)
{
	if (m->p)
		munmap(m->p, m->n);
}

static int config_map(const char *bundle, struct mapping *m, struct jspan *ret)
{
	char path[PATH_MAX];
	struct stat st;
	void *p;

	if (snprintf(path, sizeof(path), "%s/config.json", bundle) >= (int)sizeof(path))
		return -ENAMETOOLONG;

	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0 || st.st_size > CONFIG_MAX)
		return st.st_size ? -EFBIG : -EINVAL;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*m = (struct mapping){p, (size_t)st.st_size};
	return jscan_value(p, m->n, ret);
}

int bundle_annotation(const char *bundle, const char *const *keys, char *out, size_t cap)
{
	_cleanup_(mapping_done) struct mapping m = {NULL, 0};
	struct jspan root, annotations, v;
	int r = config_map(bundle, &m, &root);

	if (r < 0)
		return r;
	r = jscan_member(root, "annotations", &annotations);
	if (r <= 0 || annotations.p[0] != '{')
		return r < 0 ? r : 0;
	for (; *keys; keys++) {
		r = jscan_member(annotations, *keys, &v);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		r = jscan_string(v, out, cap);
		return r < 0 ? r : 1;
	}
	return 0;
}

bool bundle_has_private_pidns(const char *bundle)
{
	_cleanup_(mapping_done) struct mapping m = {NULL, 0};
	struct jspan root, linux_, list, ns, type, path;
	size_t pos = 0;

	if (config_map(bundle, &m, &root) < 0 || jscan_member(root, "linux", &linux_) != 1 ||
	    jscan_member(linux_, "namespaces", &list) != 1)
		return false;
	while (jscan_next_item(list, &pos, &ns) == 1)
		if (jscan_member(ns, "type", &type) == 1 && jscan_string_is(type, "pid") &&
		    (jscan_member(ns, "path", &path) != 1 || path.n <= 2))
			return true;
	return false;
}

int bundle_pid_read(const char *path, int *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32];
	ssize_t n;
	int64_t pid;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	text[n] = '\0';
	if (str_to_i64(text, 10, &pid) < 0 || pid <= 0 || pid > INT_MAX)
		return -EINVAL;
	*ret = (int)pid;
	return 0;
}

int process_with_terminal(struct jspan doc, bool terminal, struct buf *out)
{
	struct jspan k, v;
	size_t pos = 0;
	int r;

	if (doc.n < 2 || doc.p[0] != '{')
		return -EINVAL;
	buf_adds(out, terminal ? "{\"terminal\":true" : "{\"terminal\":false");
	while ((r = jscan_next_member(doc, &pos, &k, &v)) > 0) {
		if (jscan_string_is(k, "terminal"))
			continue;
		buf_addc(out, ',');
		buf_add(out, k.p, k.n);
		buf_addc(out, ':');
		buf_add(out, v.p, v.n);
	}
	if (r < 0)
		return r;
	buf_addc(out, '}');
	return buf_ok(out) ? 0 : -ENOMEM;
}
