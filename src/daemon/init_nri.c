/* SPDX-License-Identifier: Apache-2.0 */
/* The node resource interface's plugin: disabled, it is there and does nothing. */
#include "cri/nri.h"
#include "daemon/daemon_internal.h"
#include "daemon/plugin_inits.h"
#include "version.h"

static void nri_release(void *p)
{
	nri_free(p);
}

static void validator(struct arena *a, const struct toml_value *t, struct nri_validator *v)
{
	static const char *const none[] = {NULL};
	const char *const *required = config_get_strings(a, t, "required_plugins");

	*v = (struct nri_validator){
		.enable = config_get_bool(t, "enable"),
		.reject_oci_hook = config_get_bool(t, "reject_oci_hook_adjustment"),
		.reject_runtime_default_seccomp =
			config_get_bool(t, "reject_runtime_default_seccomp_adjustment"),
		.reject_unconfined_seccomp =
			config_get_bool(t, "reject_unconfined_seccomp_adjustment"),
		.reject_custom_seccomp = config_get_bool(t, "reject_custom_seccomp_adjustment"),
		.reject_namespace = config_get_bool(t, "reject_namespace_adjustment"),
		.reject_sysctl = config_get_bool(t, "reject_sysctl_adjustment"),
		.required_plugins = required ? required : none,
		.tolerate_missing_annotation =
			config_get_string(t, "tolerate_missing_plugins_annotation"),
	};
}

int plugin_nri_nri_init(struct plugin_init *in, struct err *err)
{
	const struct toml_value *t = in->values;
	struct daemon *d = in->daemon;
	struct nri_options o = {
		.socket_path = config_get_string(t, "socket_path"),
		.plugin_path = config_get_string(t, "plugin_path"),
		.plugin_config_path = config_get_string(t, "plugin_config_path"),
		.registration_timeout_ns = config_get_duration(t, "plugin_registration_timeout"),
		.request_timeout_ns = config_get_duration(t, "plugin_request_timeout"),
		.disable_connections = config_get_bool(t, "disable_connections"),
		.version = VERSION,
		.loop = d->loop,
		.pool = d->pool,
	};

	if (config_get_bool(t, "disable"))
		return 0;
	if (o.registration_timeout_ns <= 0 || o.request_timeout_ns <= 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "time-outs of plugins must be above 0");
	validator(in->arena, config_get(t, "default_validator"), &o.validator);
	int r = nri_new(&o, &d->nri, err);
	if (r < 0)
		return r;
	in->instance = d->nri;
	in->stop = nri_release;
	return 0;
}
