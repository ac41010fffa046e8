/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of block I/O: a node's file says which limits and weights the devices get, a container
 * names a class.
 *
 *     Classes:
 *       slow:
 *         - Weight: 80                 # of the devices that no other entry names
 *         - Devices: [/dev/sd[a-z]]    # patterns of paths, links are followed
 *           ThrottleReadBps: 50M       # also ThrottleWriteBps, ThrottleReadIOPS, ThrottleWriteIOPS
 *           Weight: 50                 # 10 to 1000
 *
 * Names are read in any case. Of two entries that name a device the later one counts. */
#pragma once

#include "base/err.h"
#include "base/json.h"

#define BLOCKIO_FILE_MAX (1u << 20)
#define BLOCKIO_DEVICES_MAX 4096

/* The file @path, read and checked; the caller decrefs. -ERR_NOT_FOUND, -ERR_INVALID_ARGUMENT */
int blockio_load(const char *path, json_t **ret, struct err *err) _must_check_;

/* linux.resources.blockIO of the runtime spec for the class @name of the file @config (its YAML as
 * JSON); the caller decrefs. Patterns without a block device say nothing.
 *
 * -ERR_INVALID_ARGUMENT anything in @config is wrong, also in other classes
 * -ERR_NOT_FOUND        no such class */
int blockio_class(const json_t *config, const char *name, json_t **ret,
		  struct err *err) _must_check_;

/* Checks the whole file as blockio_class() does. */
int blockio_check(const json_t *config, struct err *err) _must_check_;

/* A quantity as Kubernetes writes it: digits with a fraction, then m, k, M, G, T, P, E, Ki ... Ei,
 * or an exponent; rounded up to a whole number. -EINVAL, -ERANGE. */
int quantity_parse(const char *s, int64_t *ret);
