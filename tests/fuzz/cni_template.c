/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any text is a template or an error that says why, and makes no more than it may. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cri/cni_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const ranges[] = {"10.0.0.0/24", "fd00::/64"};
	static const char *const routes[] = {"0.0.0.0/0", "::/0"};
	const struct cni_template_data v = {
		.pod_cidr = ranges[0], .ranges = {ranges, 2}, .routes = {routes, 2}};
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct err err = ERR_INIT;
	char *text = malloc(size + 1);

	if (!text || size > 65536) {
		free(text);
		return 0;
	}
	memcpy(text, data, size);
	text[size] = 0;
	if (cni_template_render(text, &v, &out, &err) < 0 && (!err.kind || !err.text[0]))
		abort();
	if (out.len > CNI_TEMPLATE_OUT_MAX + 70000)
		abort();
	free(text);
	return 0;
}
