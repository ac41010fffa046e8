/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "oci/manifest.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

struct fix {
	struct arena *a;
	struct err err;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->a = arena_new(0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	arena_free(f->a);
	free(f);
	return 0;
}

static int parse(struct fix *f, const char *type, const char *text, struct manifest *m)
{
	f->err = ERR_INIT;
	return manifest_parse(f->a, type, text, strlen(text), m, &f->err);
}

static void assert_refused(struct fix *f, const char *type, const char *text, int kind,
			   const char *why)
{
	struct manifest m;
	int r = parse(f, type, text, &m);
	if (r != -kind || !strstr(f->err.text, why))
		fail_msg("%s: %d %s", text, r, f->err.text);
}

#define DESC(type, digest, size) \
	"{\"mediaType\":\"" type "\",\"digest\":\"" digest "\",\"size\":" size "}"

static void image_of_oci_and_of_docker_is_read(void **state)
{
	struct fix *f = *state;
	struct manifest m;
	assert_int_equal(
		parse(f, MEDIA_OCI_MANIFEST,
		      "{\"schemaVersion\":2,\"config\":" DESC(
			      MEDIA_OCI_CONFIG, A,
			      "7") ",\"layers\":[" DESC(MEDIA_OCI_LAYER "+gzip", B,
							"1099511627776") ","
									 "{\"mediaType\":"
									 "\"" MEDIA_OCI_LAYER
									 "\",\"digest\":\"" C
									 "\",\"size\":0,"
									 "\"annotations\":{\"k\":"
									 "\"v\"}}]}",
		      &m),
		0);
	assert_false(m.is_index);
	assert_string_equal(m.media_type, MEDIA_OCI_MANIFEST);
	assert_string_equal(m.config.digest, A);
	assert_int_equal(m.config.size, 7);
	assert_int_equal(m.n_layers, 2);
	assert_int_equal(m.layers[0].size, 1099511627776);
	assert_string_equal(m.layers[0].media_type, MEDIA_OCI_LAYER "+gzip");
	assert_string_equal(labels_get(&m.layers[1].annotations, "k"), "v");
	assert_int_equal(parse(f, MEDIA_DOCKER_MANIFEST,
			       "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_DOCKER_MANIFEST
			       "\",\"config\":" DESC(MEDIA_DOCKER_CONFIG, A, "1") ",\"layers\":[]}",
			       &m),
			 0);
	assert_int_equal(m.n_layers, 0);
}

static void index_names_its_platforms(void **state)
{
	struct fix *f = *state;
	struct manifest m;
	static const char *const types[] = {MEDIA_OCI_INDEX, MEDIA_DOCKER_LIST};
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		assert_int_equal(parse(f, types[i],
				       "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
				       "\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" A
				       "\",\"size\":1,\"platform\":{\"os\":\"linux\","
				       "\"architecture\":\"arm\","
				       "\"variant\":\"v7\",\"os.version\":\"1\"}}," DESC(
					       MEDIA_OCI_INDEX, B, "2") "]}",
				       &m),
				 0);
		assert_true(m.is_index);
		assert_int_equal(m.n_manifests, 2);
		assert_true(m.manifests[0].has_platform);
		assert_string_equal(m.manifests[0].platform.os, "linux");
		assert_string_equal(m.manifests[0].platform.arch, "arm");
		assert_string_equal(m.manifests[0].platform.variant, "v7");
		assert_string_equal(m.manifests[0].platform.os_version, "1");
		assert_false(m.manifests[1].has_platform);
		assert_string_equal(m.manifests[1].platform.os, "");
	}
	assert_int_equal(parse(f, MEDIA_OCI_INDEX, "{\"schemaVersion\":2,\"manifests\":[]}", &m),
			 0);
	assert_int_equal(m.n_manifests, 0);
}

static void schema_1_is_refused_as_such(void **state)
{
	struct fix *f = *state;
	assert_refused(f, "application/vnd.docker.distribution.manifest.v1+prettyjws",
		       "{\"schemaVersion\":1,\"fsLayers\":[]}", ERR_UNIMPLEMENTED, "schema 1");
	assert_refused(f, MEDIA_DOCKER_MANIFEST, "{\"schemaVersion\":1}", ERR_UNIMPLEMENTED,
		       "schema 1");
	assert_refused(f, MEDIA_DOCKER_MANIFEST, "{\"schemaVersion\":2,\"fsLayers\":[]}",
		       ERR_UNIMPLEMENTED, "schema 1");
}

static void document_of_two_meanings_is_refused(void **state)
{
	struct fix *f = *state;
	static const char image[] = "{\"config\":" DESC(MEDIA_OCI_CONFIG, A, "1") ",\"layers\":[]}";
	assert_refused(f, MEDIA_OCI_MANIFEST,
		       "{\"mediaType\":\"" MEDIA_OCI_INDEX
		       "\",\"config\":" DESC(MEDIA_OCI_CONFIG, A, "1") ",\"layers\":[]}",
		       ERR_INVALID_ARGUMENT,
		       "manifest says it is " MEDIA_OCI_INDEX
		       ", its descriptor says " MEDIA_OCI_MANIFEST);
	assert_refused(f, MEDIA_OCI_INDEX, image, ERR_INVALID_ARGUMENT,
		       "both layers and manifests, or the wrong ones");
	assert_refused(f, MEDIA_OCI_INDEX, "{\"manifests\":[],\"layers\":[]}", ERR_INVALID_ARGUMENT,
		       "both");
	assert_refused(f, MEDIA_OCI_INDEX, "{\"manifests\":[],\"config\":null}",
		       ERR_INVALID_ARGUMENT, "both");
	assert_refused(
		f, MEDIA_OCI_MANIFEST,
		"{\"config\":" DESC(MEDIA_OCI_CONFIG, A, "1") ",\"layers\":[],\"manifests\":null}",
		ERR_INVALID_ARGUMENT, "both");
}

static void damaged_documents_are_refused(void **state)
{
	struct fix *f = *state;
	static const struct {
		const char *text, *why;
	} t[] = {
		{"", "manifest"},
		{"{", "manifest"},
		{"[]", ""},
		{"null", ""},
		{"{}", "no config or no layers"},
		{"{\"config\":" DESC("x", A, "1") "}", "no config or no layers"},
		{"{\"layers\":[]}", "no config or no layers"},
		{"{\"config\":[],\"layers\":[]}", "no config or no layers"},
		{"{\"config\":" DESC("x", "sha256:abc", "1") ",\"layers\":[]}",
		 "config of the manifest: descriptor digest \"sha256:abc\""},
		{"{\"config\":" DESC("x", "../../x", "1") ",\"layers\":[]}", "descriptor digest"},
		{"{\"config\":" DESC("x", A, "-1") ",\"layers\":[]}", "no valid size"},
		{"{\"config\":" DESC("x", A, "\"1\"") ",\"layers\":[]}", "no valid size"},
		{"{\"config\":" DESC("x", A, "1.5") ",\"layers\":[]}", "no valid size"},
		{"{\"config\":{\"digest\":\"" A "\"},\"layers\":[]}", "no valid size"},
		{"{\"config\":" DESC("x", A, "1") ",\"layers\":[null]}", "layer 0 of the manifest"},
		{"{\"config\":" DESC("x", A, "1") ",\"layers\":[" DESC("x", A, "1") ",7]}",
		 "layer 1 of the manifest"},
		{"{\"config\":" DESC("x", A, "1") ",\"layers\":{}}", "no config or no layers"},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_refused(f, MEDIA_OCI_MANIFEST, t[i].text, ERR_INVALID_ARGUMENT, t[i].why);
	assert_refused(f, MEDIA_OCI_INDEX, "{\"manifests\":[" DESC("x", A, "1") ",{}]}",
		       ERR_INVALID_ARGUMENT, "manifest 1 of the index");
}

static void size_and_number_of_children_are_limited(void **state)
{
	struct fix *f = *state;
	struct manifest m;
	struct image_config c;
	_cleanup_buf_ struct buf b = BUF_INIT;
	for (int over = 0; over < 2; over++) {
		buf_clear(&b);
		buf_adds(&b, "{\"config\":" DESC("x", A, "1") ",\"layers\":[");
		for (int i = 0; i < MANIFEST_CHILDREN_MAX + over; i++)
			buf_printf(&b, "%s" DESC("x", A, "1"), i ? "," : "");
		buf_adds(&b, "]}");
		assert_int_equal(parse(f, MEDIA_OCI_MANIFEST, b.data, &m),
				 over ? -ERR_INVALID_ARGUMENT : 0);
	}
	buf_clear(&b);
	assert_int_equal(buf_reserve(&b, MANIFEST_MAX + 2), 0);
	memset(b.data, ' ', MANIFEST_MAX + 1);
	assert_int_equal(
		manifest_parse(f->a, MEDIA_OCI_MANIFEST, b.data, MANIFEST_MAX + 1, &m, &f->err),
		-ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(f->err.text, "is larger than"));
	assert_int_equal(image_config_parse(f->a, b.data, MANIFEST_MAX + 1, &c, &f->err),
			 -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(f->err.text, "is larger than"));
	/* Deep nesting is the parser's limit. */
	memset(b.data, '[', 100000);
	assert_int_equal(manifest_parse(f->a, MEDIA_OCI_MANIFEST, b.data, 100000, &m, &f->err),
			 -ERR_INVALID_ARGUMENT);
}

static int config(struct fix *f, const char *text, struct image_config *c)
{
	f->err = ERR_INIT;
	return image_config_parse(f->a, text, strlen(text), c, &f->err);
}

static void config_tells_platform_and_diff_ids(void **state)
{
	struct fix *f = *state;
	struct image_config c;
	assert_int_equal(config(f,
				"{\"os\":\"linux\",\"architecture\":\"arm64\",\"variant\":\"v8\","
				"\"rootfs\":{\"type\":\"layers\","
				"\"diff_ids\":[\"" A "\",\"" B "\"]}}",
				&c),
			 0);
	assert_string_equal(c.platform.os, "linux");
	assert_string_equal(c.platform.arch, "arm64");
	assert_int_equal(c.n_diff_ids, 2);
	assert_string_equal(c.diff_ids[1], B);
	/* An artifact's: any JSON. */
	assert_int_equal(config(f, "{}", &c), 0);
	assert_int_equal(c.n_diff_ids, 0);
	assert_string_equal(c.platform.os, "");
	static const char *const bad[] = {"", "{", "{\"rootfs\":{\"diff_ids\":[\"sha256:x\"]}}",
					  "{\"rootfs\":{\"diff_ids\":[null]}}",
					  "{\"rootfs\":{\"diff_ids\":[7]}}"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (config(f, bad[i], &c) != -ERR_INVALID_ARGUMENT)
			fail_msg("%s", bad[i]);
}

/* Computed elsewhere: sha256sum of "<chain> <diff>". */
#define CHAIN_AB "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c"
#define CHAIN_ABC "sha256:c1377126441fb2f5ec2c21ae2a60255331d639e830f0ee1b40a36e52d4c40588"

static void chain_ids_are_those_of_the_specification(void **state)
{
	struct fix *f = *state;
	const char *diffs[] = {A, B, C};
	assert_string_equal(chain_id(f->a, diffs, 0), "");
	assert_string_equal(chain_id(f->a, diffs, 1), A);
	assert_string_equal(chain_id(f->a, diffs, 2), CHAIN_AB);
	assert_string_equal(chain_id(f->a, diffs, 3), CHAIN_ABC);
}

static void media_types_have_their_kind(void **state)
{
	assert_true(media_is_index(MEDIA_OCI_INDEX) && media_is_index(MEDIA_DOCKER_LIST));
	assert_false(media_is_index(MEDIA_OCI_MANIFEST) || media_is_index("") ||
		     media_is_index(MEDIA_OCI_INDEX "x"));
	assert_true(media_is_manifest(MEDIA_OCI_MANIFEST) &&
		    media_is_manifest(MEDIA_DOCKER_MANIFEST));
	assert_false(media_is_manifest(MEDIA_OCI_INDEX));
	assert_true(media_is_config(MEDIA_OCI_CONFIG) && media_is_config(MEDIA_DOCKER_CONFIG));
	static const char *const layers[] = {
		MEDIA_OCI_LAYER,
		MEDIA_OCI_LAYER "+gzip",
		MEDIA_OCI_LAYER "+zstd",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		MEDIA_DOCKER_LAYER,
		MEDIA_DOCKER_LAYER ".gzip",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"};
	for (size_t i = 0; i < ARRAY_LEN(layers); i++)
		assert_true(media_is_layer(layers[i]));
	assert_false(media_is_layer(MEDIA_OCI_CONFIG) || media_is_layer("") ||
		     media_is_layer("application/octet-stream"));
}

static void ingests_are_named_by_kind(void **state)
{
	struct fix *f = *state;
	struct descriptor d = {.digest = A};
	static const struct {
		const char *type, *key;
	} t[] = {{MEDIA_OCI_MANIFEST, "manifest-" A},
		 {MEDIA_DOCKER_LIST, "index-" A},
		 {MEDIA_OCI_LAYER "+gzip", "layer-" A},
		 {MEDIA_OCI_CONFIG, "config-" A},
		 {"application/x", "unknown-" A},
		 {"application/vnd.in-toto+json", "attestation-" A}};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		d.media_type = t[i].type;
		assert_string_equal(descriptor_ref_key(f->a, &d), t[i].key);
	}
	d.media_type = MEDIA_OCI_MANIFEST;
	labels_set(f->a, &d.annotations, "org.opencontainers.image.ref.name", "x:1");
	assert_string_equal(descriptor_ref_key(f->a, &d), "manifest-x:1@" A);
}

#define GC "containerd.io/gc.ref.content."

static void children_are_labelled_in_their_order(void **state)
{
	struct fix *f = *state;
	struct manifest m;
	struct labels l = {0};
	assert_int_equal(parse(f, MEDIA_OCI_MANIFEST,
			       "{\"config\":" DESC(MEDIA_OCI_CONFIG, A, "1") ",\"layers\":[" DESC(
				       MEDIA_OCI_LAYER, B,
				       "1") "," DESC("application/x", C,
						     "1") "," DESC(MEDIA_OCI_LAYER, C, "1") "]}",
			       &m),
			 0);
	assert_int_equal(manifest_gc_labels(f->a, &m, &l), 0);
	assert_int_equal(l.n, 4);
	assert_string_equal(labels_get(&l, GC "config"), A);
	assert_string_equal(labels_get(&l, GC "l.0"), B);
	assert_string_equal(labels_get(&l, GC "l.1"), C);
	assert_string_equal(labels_get(&l, GC "0"), C);

	l = (struct labels){0};
	assert_int_equal(
		parse(f, MEDIA_OCI_MANIFEST,
		      "{\"config\":" DESC("application/vnd.cncf.helm.config.v1+json", A,
					  "1") ",\"layers\":[" DESC("application/x", B, "1") "]}",
		      &m),
		0);
	assert_int_equal(manifest_gc_labels(f->a, &m, &l), 0);
	assert_int_equal(l.n, 2);
	assert_string_equal(labels_get(&l, GC "0"), A);
	assert_string_equal(labels_get(&l, GC "1"), B);

	l = (struct labels){0};
	assert_int_equal(
		parse(f, MEDIA_OCI_INDEX,
		      "{\"manifests\":[{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" A
		      "\",\"size\":1,\"annotations\":{\"io.containerd.manifest.subject\":\"" B
		      "\"}}," DESC(MEDIA_OCI_MANIFEST, B, "1") "]}",
		      &m),
		0);
	assert_int_equal(manifest_gc_labels(f->a, &m, &l), 0);
	assert_int_equal(l.n, 2);
	assert_string_equal(labels_get(&l, GC "m.0"), B);
	assert_int_equal(strncmp(A, "sha256:", 7), 0);
	assert_string_equal(labels_get(&l, arena_printf(f->a, GC "referrer.sha256.%.12s", A + 7)),
			    A);

	l = (struct labels){0};
	assert_int_equal(
		parse(f, MEDIA_OCI_INDEX,
		      "{\"manifests\":[" DESC(MEDIA_OCI_MANIFEST, A, "1") "," DESC(
			      MEDIA_OCI_INDEX, B, "1") "," DESC(MEDIA_DOCKER_MANIFEST, C, "1") "]}",
		      &m),
		0);
	assert_int_equal(manifest_gc_labels(f->a, &m, &l), 0);
	assert_int_equal(l.n, 3);
	assert_string_equal(labels_get(&l, GC "m.0"), A);
	assert_string_equal(labels_get(&l, GC "m.1"), C);
	assert_string_equal(labels_get(&l, GC "0"), B);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(image_of_oci_and_of_docker_is_read),
		T(index_names_its_platforms),
		T(schema_1_is_refused_as_such),
		T(document_of_two_meanings_is_refused),
		T(damaged_documents_are_refused),
		T(size_and_number_of_children_are_limited),
		T(config_tells_platform_and_diff_ids),
		T(chain_ids_are_those_of_the_specification),
		T(media_types_have_their_kind),
		T(ingests_are_named_by_kind),
		T(children_are_labelled_in_their_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
