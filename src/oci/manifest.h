/* SPDX-License-Identifier: Apache-2.0 */
/* Image manifests, indexes and configurations: OCI image-spec 1.1 and Docker schema 2
 * (https://github.com/opencontainers/image-spec,
 * https://distribution.github.io/distribution/spec/manifest-v2-2/).
 *
 * Input is bytes from a registry or an archive; a document is at most MANIFEST_MAX bytes and names
 * at most MANIFEST_CHILDREN_MAX children. Results live in the arena. */
#pragma once

#include "oci/descriptor.h"

#define MANIFEST_MAX (4u * 1048 * 1048)
#define MANIFEST_CHILDREN_MAX 4096

#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define MEDIA_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

bool media_is_index(const char *t);
bool media_is_manifest(const char *t);
bool media_is_layer(const char *t);
bool media_is_config(const char *t);

struct manifest_child {
	struct descriptor desc;
	struct platform platform;
	bool has_platform;
};

struct manifest {
	const char *media_type;
	bool is_index;
	/* index */
	struct manifest_child *manifests;
	size_t n_manifests;
	/* manifest */
	struct descriptor config;
	struct descriptor *layers;
	size_t n_layers;
};

struct image_config {
	struct platform platform;
	const char **diff_ids;
	size_t n_diff_ids;
};

/* @media_type as the descriptor says; a document that says otherwise itself is refused
 * (-ERR_INVALID_ARGUMENT), as is Docker schema 1
 * (-ERR_UNIMPLEMENTED). Descriptors have valid digests and sizes that are not negative. */
int manifest_parse(struct arena *a, const char *media_type, const char *p, size_t n,
		   struct manifest *ret, struct err *err) _must_check_;
int image_config_parse(struct arena *a, const char *p, size_t n, struct image_config *ret,
		       struct err *err) _must_check_;

/* A descriptor object of JSON. */
typedef struct json_t json_t;
int descriptor_from_json(struct arena *a, const json_t *j, struct descriptor *ret,
			 struct err *err) _must_check_;

/* Chain ID of the first @n layers: sha256 over "<chain of n-1> <diff n>". NULL = no memory. */
const char *chain_id(struct arena *a, const char *const *diff_ids, size_t n);

/* "manifest-sha256:...", "layer-..." : the name of a descriptor's ingest. NULL = no memory. */
const char *descriptor_ref_key(struct arena *a, const struct descriptor *d);

/* On a descriptor in an index: the digest of the manifest that it refers to. */
#define ANNOTATION_SUBJECT "io.containerd.manifest.subject"

/* Sets the labels containerd.io/gc.ref.content.* of a manifest's or index's blob for all of its
 * children. 0 or -ENOMEM. */
int manifest_gc_labels(struct arena *a, const struct manifest *m, struct labels *labels);
/* The same for @digest, which refers to the blob: a signature, an attestation. 0 or -ENOMEM. */
int referrer_gc_label(struct arena *a, const char *digest, struct labels *labels);
