/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "ctr/convert.h"

static void docker_types_have_oci_names_and_others_stay(void **state)
{
	assert_string_equal(
		convert_media_type("application/vnd.docker.distribution.manifest.list.v2+json"),
		"application/vnd.oci.image.index.v1+json");
	assert_string_equal(convert_media_type("application/vnd.docker.image.rootfs.diff.tar.gzip"),
			    "application/vnd.oci.image.layer.v1.tar+gzip");
	assert_string_equal(
		convert_media_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
	assert_string_equal(convert_media_type("application/vnd.oci.image.manifest.v1+json"),
			    "application/vnd.oci.image.manifest.v1+json");
	assert_string_equal(convert_media_type("application/vnd.docker.other"),
			    "application/vnd.docker.other");
}

static void compression_is_cut_off_a_layers_type(void **state)
{
	assert_string_equal(
		convert_uncompressed_type("application/vnd.oci.image.layer.v1.tar+zstd"),
		"application/vnd.oci.image.layer.v1.tar");
	assert_string_equal(
		convert_uncompressed_type("application/vnd.docker.image.rootfs.diff.tar.gzip"),
		"application/vnd.docker.image.rootfs.diff.tar");
	assert_null(convert_uncompressed_type("application/vnd.oci.image.layer.v1.tar"));
	assert_null(
		convert_uncompressed_type("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"));
	assert_null(convert_uncompressed_type("application/vnd.erofs.layer.v1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(docker_types_have_oci_names_and_others_stay),
		cmocka_unit_test(compression_is_cut_off_a_layers_type),
	};

	return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
