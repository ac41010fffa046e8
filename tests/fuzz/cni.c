/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes are a network configuration and a result, or an error with a message. What
 * is accepted has the shape that callers rely on, and a result says the same in every version. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cni/cni.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void try_network(const char *text, size_t size, bool list)
{
	struct cni_network *n _cleanup_(cni_network_freep) = NULL;
	struct err err = ERR_INIT;

	if (cni_network_parse(text, size, "", list, &n, &err) < 0) {
		must(err.kind && err.text[0]);
		return;
	}
	must(cni_name_valid(n->name) && cni_version_known(n->version));
	must(n->n_plugins <= CNI_PLUGINS_MAX);
	for (size_t i = 0; i < n->n_plugins; i++)
		must(*n->plugins[i].type && !strchr(n->plugins[i].type, '/'));
}

static void try_result(const char *text, size_t size)
{
	static const char *const versions[] = {"0.2.0", "0.4.0", "1.0.0", "1.1.0"};
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *j _cleanup_json_ = NULL;
	struct err err = ERR_INIT;
	struct cni_result r;

	if (!a || json_parse(text, size, &j, NULL) < 0)
		return;
	if (cni_result_read(a, j, &r, &err) < 0) {
		must(err.kind && err.text[0]);
		return;
	}
	for (size_t i = 0; i < r.n_ips; i++)
		must(*r.ips[i].ip && r.ips[i].interface < (int)r.n_interfaces);
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		json_t *out _cleanup_json_ = NULL;
		struct cni_result again;

		if (cni_result_convert(j, versions[i], &out, NULL) == 0)
			must(cni_result_read(a, out, &again, NULL) == 0 && again.n_ips <= r.n_ips);
		else
			must(i == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_network((const char *)data, size, true);
	try_network((const char *)data, size, false);
	try_result((const char *)data, size);
	return 0;
}
