/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes are an image document or an error with a message. What is accepted has
 * digests and sizes that can be worked with, and labels can be made for its children.
 *
 * The first byte chooses the media type that the descriptor claims; 0x80 reads a configuration. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/labels.h"
#include "oci/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_descriptor(struct arena *a, const struct descriptor *d)
{
	if (digest_validate(d->digest, NULL) < 0 || d->size < 0 || !d->media_type)
		abort();
	(void)descriptor_ref_key(a, d);
}

static void check_manifest(struct arena *a, const struct manifest *m)
{
	struct labels labels = {0};

	if (m->n_manifests + m->n_layers > MANIFEST_CHILDREN_MAX)
		abort();
	for (size_t i = 0; i < m->n_manifests; i++)
		check_descriptor(a, &m->manifests[i].desc);
	for (size_t i = 0; i < m->n_layers; i++)
		check_descriptor(a, &m->layers[i]);
	if (!m->is_index)
		check_descriptor(a, &m->config);
	(void)manifest_gc_labels(a, m, &labels);
}

static void check_config(struct arena *a, const char *p, size_t n)
{
	struct image_config config;
	struct err err = ERR_INIT;

	if (image_config_parse(a, p, n, &config, &err) < 0) {
		if (err.kind == 0 || !err.text[0])
			abort();
		return;
	}
	for (size_t i = 0; i < config.n_diff_ids; i++)
		if (digest_validate(config.diff_ids[i], NULL) < 0 ||
		    !chain_id(a, (const char *const *)config.diff_ids, i + 1))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = {MEDIA_OCI_MANIFEST, MEDIA_OCI_INDEX,
					    MEDIA_DOCKER_MANIFEST, MEDIA_DOCKER_LIST};
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct manifest manifest;
	struct err err = ERR_INIT;

	if (!a || size == 0)
		return 0;
	if (*data & 0x80) {
		check_config(a, (const char *)data + 1, size - 1);
		return 0;
	}
	if (manifest_parse(a, types[*data % 4], (const char *)data + 1, size - 1, &manifest, &err) <
	    0) {
		if (err.kind == 0 || !err.text[0])
			abort();
		return 0;
	}
	check_manifest(a, &manifest);
	return 0;
}
