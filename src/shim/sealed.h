/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed copies of crun.
 *
 * So that a container can not write to the program that enters it, crun runs from something nobody
 * can write to: at every start it binds its file read-only, executes that and begins anew, which is
 * half of what its short commands take. From a sealed file in memory it runs as it is. Making one
 * takes a fraction of that, and protects as well. Other runtimes are started by their path: they
 * have other ways, or look at where they are.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

/* A close-on-exec descriptor of a sealed copy of the program at @path, to be executed.
 *
 * -ENOEXEC  not a program of this kind, or too large: execute @path itself
 * -errno    the system does not give us one */
int sealed_copy(const char *path);

/* A copy that is kept for the next start; all zero = none. */
struct sealed {
	bool made;
	int fd;
	struct stat of; /* the file that it is a copy of */
};

/* Like sealed_copy(), but the copy from the last time while the file is still the same. The
 * descriptor stays @s's. */
int sealed_get(struct sealed *s, const char *path);
void sealed_drop(struct sealed *s);
