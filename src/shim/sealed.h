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

/* A close-on-exec descriptor of a sealed copy of the program at @path, to be executed.
 *
 * -ENOEXEC  not a program of this kind, or too large: execute @path itself
 * -errno    the system does not give us one */
int sealed_copy(const char *path);
