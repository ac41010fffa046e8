/* SPDX-License-Identifier: Apache-2.0 */
/* --device and --gpus: nodes of the host, and devices by their CDI names. */
#include "ctr/create_spec.h"

#include "oci/cdi.h"
#include "oci/spec.h"

/* A GPU as --gpus names it: "all", its number or UUID, or a whole CDI name. */
static const char *gpu_name(struct arena *a, const struct cdi *cdi, const char *gpu)
{
	static const char *const kinds[] = {"nvidia.com/gpu", "amd.com/gpu"};
	const char *kind = kinds[0];

	if (cdi_name_valid(gpu))
		return gpu;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (cdi_has_kind(cdi, kinds[i])) {
			kind = kinds[i];
			break;
		}
	return arena_printf(a, "%s=%s", kind, gpu);
}

static int collect(struct ctr *c, const struct cdi *cdi, const char **names, size_t *ret_n,
		   struct err *err)
{
	const char **devices, **gpus;
	size_t n_devices, n_gpus, n = 0;

	devices = ctr_strings(c, "device", &n_devices);
	gpus = ctr_strings(c, "gpus", &n_gpus);
	for (size_t i = 0; i < n_devices; i++)
		if (cdi_name_valid(devices[i]))
			names[n++] = devices[i];
	for (size_t i = 0; i < n_gpus; i++) {
		names[n] = gpu_name(c->ctx.arena, cdi, gpus[i]);
		if (!names[n++])
			return err_nomem(err);
	}
	*ret_n = n;
	return 0;
}

int create_devices(struct ctr *c, json_t *spec, struct err *err)
{
	size_t n;
	const char **v = ctr_strings(c, "device", &n);
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		if (!cdi_name_valid(v[i]))
			r = spec_add_device(spec, v[i], v[i], "rwm", err);
	return r;
}

int create_cdi_devices(struct ctr *c, json_t *spec, struct err *err)
{
	struct cdi *cdi _cleanup_(cdi_freep) = NULL;
	size_t n_devices, n_gpus, n = 0, wanted;
	const char **v = ctr_strings(c, "device", &n_devices), **names;
	int r;

	ctr_strings(c, "gpus", &n_gpus);
	wanted = n_gpus;
	for (size_t i = 0; i < n_devices; i++)
		wanted += cdi_name_valid(v[i]);
	if (wanted == 0)
		return 0;
	names = arena_new_array(c->ctx.arena, const char *, wanted + 1);
	if (!names)
		return err_nomem(err);
	r = cdi_load(NULL, 0, &cdi, err);
	if (r == 0)
		r = collect(c, cdi, names, &n, err);
	return r < 0 ? r : cdi_inject(cdi, spec, names, n, err);
}
