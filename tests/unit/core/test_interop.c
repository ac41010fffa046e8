/* SPDX-License-Identifier: Apache-2.0 */
/* A database that containerd 1.6 (Debian's) wrote: a namespace with labels, an imported image
 * unpacked with the native snapshotter, a container, a lease, an active snapshot. Its schema has
 * version 3. */
#include <fcntl.h>

#include "base/fd.h"
#include "core/container.h"
#include "core/gc.h"
#include "core/image.h"
#include "core/lease.h"
#include "core/namespace.h"
#include "core/schema.h"
#include "fake_snapshotter.h"

#define MANIFEST "sha256:1b1f7bb7953a1b9dceb6b5d34d5cc06edbbda61063a79ba539c347e5e51bc312"
#define LAYER "sha256:a87e4b2fe7b5e7c09be7b07f747210182f5998ef3e02d2848600c85f6c36d237"

static int hex(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Lines of offset and bytes, both hexadecimal. */
static void unpack(struct fix *f, const char *text, const char *path)
{
	_cleanup_fclose_ FILE *in = fopen(text, "re");
	_cleanup_close_ int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char line[256];
	int64_t size;

	assert_non_null(in);
	assert_non_null(fgets(line, sizeof(line), in));
	assert_int_equal(str_to_i64(strtok(strrchr(line, ' ') + 1, "\n"), 10, &size), 0);
	assert_int_equal(ftruncate(out, size), 0);
	while (fgets(line, sizeof(line), in)) {
		unsigned char bytes[64];
		char *end, *p;
		long at = strtol(line, &end, 16);
		size_t n = 0;

		for (p = end + 1; p[0] != '\n' && p[0]; p += 2)
			bytes[n++] = (unsigned char)(hex(p[0]) << 4 | hex(p[1]));
		assert_int_equal(fd_pwrite_full(out, bytes, n, at), 0);
	}
}

static int setup(void **state)
{
	struct fix *f;

	if (fix_setup(state) < 0)
		return -1;
	f = *state;
	db_close(f->db);
	unpack(f, CONTAINERD_META, f->path);
	fix_open(f);
	f->ctx.ns = "ns1";
	return 0;
}

static void records_are_read(void **state)
{
	struct fix *f = *state;
	struct namespace_info *namespaces;
	struct content_info *blobs;
	struct container c;
	struct lease *leases;
	struct image i;
	size_t n;

	assert_ok(namespace_list(&f->ctx, f->db, &namespaces, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(namespaces[0].name, "ns1");
	assert_string_equal(labels_get(&namespaces[0].labels, "b"), "2");
	assert_ok(image_get(&f->ctx, f->db, "example.com/tiny:latest", &i, &f->err));
	assert_string_equal(i.target.digest, MANIFEST);
	assert_string_equal(i.target.media_type, "application/vnd.oci.image.manifest.v1+json");
	assert_int_equal(i.target.size, 415);
	assert_string_equal(labels_get(&i.labels, "k"), "v");
	assert_in_range(i.created_at.tv_sec, 1795367500, 1795367600);
	assert_ok(container_get(&f->ctx, f->db, "c1", &c, &f->err));
	assert_string_equal(c.image, "example.com/tiny:latest");
	assert_string_equal(c.runtime_name, "io.containerd.runc.v2");
	assert_string_equal(c.runtime_options.type_url, "containerd.runc.v1.Options");
	assert_string_equal(c.spec.type_url,
			    "types.containerd.io/opencontainers/runtime-spec/1/Spec");
	assert_memory_equal(c.spec.value, "{\"ociVersion\"", 13);
	assert_string_equal(c.snapshotter, "native");
	assert_string_equal(c.snapshot_key, "c1");
	assert_string_equal(labels_get(&c.labels, "x"), "y");
	assert_ok(content_list(&f->ctx, f->db, NULL, &blobs, &n, &f->err));
	assert_int_equal(n, 5);
	assert_string_equal(blobs[1].digest, LAYER);
	assert_int_equal(blobs[1].size, 10240);
	assert_string_equal(labels_get(&blobs[1].labels, "containerd.io/uncompressed"), LAYER);
	assert_ok(lease_list(&f->ctx, f->db, NULL, &leases, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(leases[0].id, "l1");
	assert_string_equal(labels_get(&leases[0].labels, "foo"), "bar");
}

static void snapshots_are_found_in_their_back_end(void **state)
{
	struct fix *f = *state;
	struct snapshot_info *all;
	struct fake s;
	size_t n;

	fake_init(&s, f);
	db_close(f->db);
	fix_open(f);
	s.base.name = "native";
	assert_ok(db_add_snapshotter(f->db, &s.base, &f->err));
	assert_ok(snapshot_list(&f->ctx, f->db, "native", NULL, &all, &n, &f->err));
	assert_int_equal(n, 0);
	fake_add(&s, SNAPSHOT_COMMITTED, "ns1/2/" LAYER, "", NULL);
	fake_add(&s, SNAPSHOT_ACTIVE, "ns1/3/c1", "ns1/2/" LAYER, NULL);
	assert_ok(snapshot_list(&f->ctx, f->db, "native", NULL, &all, &n, &f->err));
	assert_int_equal(n, 2);
	assert_string_equal(all[0].name, "c1");
	assert_string_equal(all[0].parent, LAYER);
	/* The container keeps both. */
	assert_ok(gc_run(&f->ctx, f->db, &f->err));
	assert_int_equal(s.n, 2);
	assert_int_equal(snapshot_remove(&f->ctx, f->db, "native", LAYER, &f->err),
			 -ERR_FAILED_PRECONDITION);
}

static int version(struct bolt_tx *tx, void *arg, struct err *err)
{
	*(int64_t *)arg = schema_get_int(schema_find(tx, NULL, 0), "version");
	return 0;
}

static void schema_is_brought_to_version_4(void **state)
{
	struct fix *f = *state;
	int64_t v = 0;

	assert_ok(db_view(&f->ctx, f->db, version, &v, &f->err));
	assert_int_equal(v, 4);
}

static void collection_keeps_what_the_image_needs(void **state)
{
	struct fix *f = *state;
	struct content_info *blobs;
	size_t n;

	assert_ok(gc_run(&f->ctx, f->db, &f->err));
	assert_ok(content_list(&f->ctx, f->db, NULL, &blobs, &n, &f->err));
	/* Manifest, layer and config; the index had no name, the other was held by nothing. */
	assert_int_equal(n, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, fix_teardown)
		T(records_are_read),
		T(snapshots_are_found_in_their_back_end),
		T(schema_is_brought_to_version_4),
		T(collection_keeps_what_the_image_needs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
