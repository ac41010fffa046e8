/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes are YAML that has a JSON form, or an error that says why; what looks like
 * a CDI file is checked, too. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "oci/cdi.h"
#include "oci/yaml_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *j _cleanup_json_ = NULL;
	char *text _cleanup_free_ = NULL;
	struct err err = ERR_INIT;

	if (yaml_to_json((const char *)data, size, &j, &err) < 0) {
		if (!err.kind || !err.text[0])
			abort();
		return 0;
	}
	text = json_dumps(j, JSON_ENCODE_ANY);
	if (!text)
		abort();
	if (cdi_spec_check(j, &err) < 0 && !err.text[0])
		abort();
	return 0;
}
