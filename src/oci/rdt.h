/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of cache and memory bandwidth (Intel RDT, AMD QoS): a node's file says which classes
 * there are, the kernel keeps each as a group of its file system resctrl, a container names one.
 *
 *     options:                          # a resource that the system lacks is an error unless
 *       mb: {optional: true}            # optional; also l2, l3
 *     partitions:
 *       exclusive:
 *         l3Allocation: 60%             # partitions share no part of a cache
 *         mbAllocation: [100%, 1000MBps]
 *         classes:
 *           guaranteed:                 # all that the partition has
 *       shared:
 *         l3Allocation:
 *           all: 40%
 *           2-3: {unified: 40%, code: 30%, data: 50%}   # of caches 2 and 3
 *         classes:
 *           burstable:
 *             l3Allocation: 50%         # of the partition; or 50-60%, 0xf (of its bits), 0-3
 *             kubernetes: {denyPodAnnotation: true} # also denyContainerAnnotation
 *
 * Names of members are read in any case. Of two lists of caches that name one the later counts.
 * A class is loaded once and then read only: any thread may ask. */
#pragma once

#include "base/arena.h"
#include "base/err.h"

#define RDT_FILE_MAX (1u << 20)
/* The group that all processes are in which are in no other; "" means it, too. */
#define RDT_ROOT_CLASS "system/default"

struct rdt;

/* A resctrl file system. */
struct rdt_fs {
	const char *root; /* where it is mounted */
	bool mbps;	  /* with mba_MBps: bandwidth is in MB/s, not in percent */
	/* How groups come and go: 0 or -errno. NULL = mkdir and rmdir, all that the kernel needs.
	 */
	int (*make)(int dir, const char *name);
	int (*remove)(int dir, const char *name);
};

/* The first one in the table @mounts (/proc/mounts). -ERR_NOT_FOUND */
int rdt_fs_find(struct arena *a, const char *mounts, struct rdt_fs *ret,
		struct err *err) _must_check_;

/* Reads the file @path and makes the groups of @fs (NULL = where this host has it) what it says:
 * groups that it does not name are removed, whoever has made them, those that it names are made and
 * get their shares, and monitoring groups without a task are removed. Nothing is touched unless the
 * whole file is right.
 *
 * -ERR_NOT_FOUND        no resctrl, or no file
 * -ERR_INVALID_ARGUMENT the file is wrong, or asks for what the system does not have
 * other                 the kernel refused; groups before that one are set */
int rdt_load(const char *path, const struct rdt_fs *fs, struct rdt **ret,
	     struct err *err) _must_check_;
void rdt_free(struct rdt *t);
DEFINE_CLEANUP(struct rdt *, rdt_free)

/* Who names a class. */
enum rdt_origin {
	RDT_ANYONE,
	RDT_POD_ANNOTATION,
	RDT_CONTAINER_ANNOTATION,
};

/* Whether a container may have the class @name: there is such a group (also one that the file does
 * not name), and the file does not deny it to @origin.
 *
 * -ERR_INVALID_ARGUMENT no name of a group
 * -ERR_NOT_FOUND, -ERR_PERMISSION_DENIED */
int rdt_class_check(const struct rdt *t, const char *name, enum rdt_origin origin,
		    struct err *err) _must_check_;
