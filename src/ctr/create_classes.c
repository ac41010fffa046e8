/* SPDX-License-Identifier: Apache-2.0 */
/* --apparmor-profile, --apparmor-default-profile, --blockio-config-file and --blockio-class: what
 * the host's administrator has set up by name. */
#include "ctr/create_spec.h"

#include "oci/apparmor.h"
#include "oci/blockio.h"
#include "oci/spec.h"

int create_apparmor(struct ctr *c, json_t *spec, struct err *err)
{
	const char *name = ctr_string(c, "apparmor-profile"),
		   *made = ctr_string(c, "apparmor-default-profile");
	int r = 0;

	if (*name && *made)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "apparmor-profile conflicts with apparmor-default-profile");
	if (*made)
		r = apparmor_load_default(&c->ctx, NULL, made, err);
	if (r < 0 || (!*name && !*made))
		return r;
	return spec_set(spec, "process/apparmorProfile", json_string(*made ? made : name), err);
}

int create_blockio(struct ctr *c, json_t *spec, struct err *err)
{
	const char *path = ctr_string(c, "blockio-config-file"),
		   *name = ctr_string(c, "blockio-class");
	_cleanup_json_ json_t *config = NULL;
	json_t *blockio;
	int r = *path ? blockio_load(path, &config, err) : 0;

	if (r < 0)
		return err_prefix(err, "blockio-config-file error");
	if (!*name)
		return 0;
	r = blockio_class(config, name, &blockio, err);
	return r < 0 ? err_prefix(err, "blockio-class error")
		     : spec_set(spec, "linux/resources/blockIO", blockio, err);
}
