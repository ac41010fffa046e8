/* SPDX-License-Identifier: Apache-2.0 */
/* Looks from the top layer down for the first that has the file, or hides it. What takes more than
 * that is left to the kernel: links, moved directories, copies without data. The directories are
 * somebody else's: no link in them is followed. */
#include "sys/layers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/str.h"

enum mark { MARK_NONE, MARK_YES, MARK_OTHER };

/* What overlayfs has noted about a file in one of its attributes. */
static enum mark overlay_mark(int fd, const char *what)
{
	static const char *const prefixes[] = {"trusted", "user"};

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		char name[64], value[2] = "";
		ssize_t n;

		snprintf(name, sizeof(name), "%s.overlay.%s", prefixes[i], what);
		n = fgetxattr(fd, name, value, sizeof(value));
		if (n >= 0 || errno == ERANGE)
			return n == 1 && value[0] == 'y' ? MARK_YES : MARK_OTHER;
	}
	return MARK_NONE;
}

struct wanted {
	struct arena *arena;
	const char *dir, *name;
	size_t max;
};

/* 1 = this layer decides, 0 = those below do, -EAGAIN = not to be told in this way. */
static int layer_file(const struct wanted *w, const char *layer, char **ret)
{
	int root _cleanup_close_ = open(layer, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int dir _cleanup_close_ =
		root < 0 ? -1
			 : openat(root, w->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int fd _cleanup_close_ = -1;
	enum mark opaque;
	struct stat st;
	size_t len;

	if (dir < 0)
		return root >= 0 && errno == ENOENT ? 0 : -EAGAIN;
	opaque = overlay_mark(dir, "opaque");
	if (opaque == MARK_OTHER || overlay_mark(dir, "redirect") != MARK_NONE)
		return -EAGAIN;
	fd = openat(dir, w->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno != ENOENT ? -EAGAIN : opaque == MARK_YES ? 1 : 0;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    overlay_mark(fd, "metacopy") != MARK_NONE || overlay_mark(fd, "whiteout") != MARK_NONE)
		return -EAGAIN;
	return fd_read_all(w->arena, fd, w->max, ret, &len) < 0 ? -EAGAIN : 1;
}

/* The directories of a mount from the top down, NULL-terminated; NULL = not to be told. */
static char **mount_layers(struct arena *a, const struct mount_spec *m)
{
	const char *upper = NULL, *lower = NULL;
	char *all;

	if (!str_empty(m->target))
		return NULL;
	for (size_t i = 0; i < m->n_options; i++) {
		upper = str_or(str_skip(m->options[i], "upperdir="), upper);
		lower = str_or(str_skip(m->options[i], "lowerdir="), lower);
	}
	if (!streq(m->type, "overlay"))
		all = streq(m->type, "bind") ? arena_strdup(a, m->source) : NULL;
	else if (!lower)
		all = NULL;
	else
		all = upper ? arena_printf(a, "%s:%s", upper, lower) : arena_strdup(a, lower);
	/* A backslash hides a colon. */
	return all && !strchr(all, '\\') ? str_split(a, all, ':', NULL) : NULL;
}

int layers_file_read(struct arena *a, const struct mount_spec *m, const char *dir, const char *name,
		     size_t max, char **ret)
{
	const struct wanted w = {a, dir, name, max};
	char **layers = mount_layers(a, m), *text = layers ? arena_strdup(a, "") : NULL;
	int r = 0;

	if (!text)
		return -EAGAIN;
	for (; *layers && r == 0; layers++)
		r = **layers == '/' ? layer_file(&w, *layers, &text) : -EAGAIN;
	if (r < 0)
		return r;
	*ret = text;
	return 0;
}
